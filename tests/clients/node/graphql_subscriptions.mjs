// graphql-redis-subscriptions: a GraphQL subscription fed by another process's publisher, patterns, resumption.

import { buildSchema, parse, subscribe } from 'graphql';
import { RedisPubSub } from 'graphql-redis-subscriptions';
import Redis from 'ioredis';
import { assert, done, until, url } from './scenario.mjs';

const listening = new RedisPubSub({ publisher: new Redis(url), subscriber: new Redis(url) });
const speaking = new RedisPubSub({ publisher: new Redis(url), subscriber: new Redis(url) });
const iterate = (...words) => (listening.asyncIterableIterator ?? listening.asyncIterator).apply(listening, words);
const schema = buildSchema('type Query { none: Int } type Subscription { commented: String }');
schema.getSubscriptionType().getFields().commented.subscribe = () => iterate('COMMENTED');

const events = await subscribe({ schema, document: parse('subscription { commented }') });
let next;
events.next().then((result) => {
    next = result;
});
const admin = new Redis(url);
// A message that comes together with the word that it is subscribed is lost on it.
await until(async () => {
    await speaking.publish('COMMENTED', { commented: 'first' });
    return next;
}, 'a message');
assert.equal(next.value.data.commented, 'first');

const got = [];
const id = await listening.subscribe('user.*', (message) => got.push(message), { pattern: true });
await speaking.publish('user.7', { name: 'ü' });
await until(() => got.length === 1, 'a message by pattern');
assert.deepEqual(got, [{ name: 'ü' }]);
listening.unsubscribe(id);
await until(async () => (await admin.pubsub('NUMPAT')) === 0, 'the end of the pattern');
await events.return();
await until(async () => (await admin.pubsub('CHANNELS')).length === 0, 'the end of the subscription');
done();
