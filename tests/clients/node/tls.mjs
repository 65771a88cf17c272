// ioredis and node-redis over TLS, each side with a certificate; a stranger and plain text are refused.

import Redis from 'ioredis';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { createClient } from 'redis';
import { assert, done, host } from './scenario.mjs';

const port = Number(process.env.REDIS_TLS_PORT);
const [ca, cert, key] = ['AUTHORITY', 'CERTIFICATE', 'KEY'].map((name) => readFileSync(process.env[`TLS_${name}`]));
const ours = { ca, cert, key };
const large = 'x'.repeat(5_000_000);

const ioredis = new Redis({ host, port, tls: ours });
assert.equal(await ioredis.set('large', large), 'OK');
assert.equal(await ioredis.get('large'), large);
assert.equal((await ioredis.pipeline(Array.from({ length: 5000 }, (_, n) => ['incrby', 'sum', n])).exec()).at(-1)[1], (4999 * 5000) / 2);
const sub = ioredis.duplicate();
const heard = new Promise((resolve) => sub.on('message', (_channel, text) => resolve(text)));
await sub.subscribe('news');
await ioredis.publish('news', 'hello');
assert.equal(await heard, 'hello');

const nodeRedis = await createClient({ socket: { host, port, tls: true, ...ours }, RESP: 3 }).connect();
assert.equal(await nodeRedis.get('large'), large);
const popped = nodeRedis.duplicate().connect().then((client) => client.blPop('queue', 30));
await nodeRedis.rPush('queue', 'job');
assert.equal((await popped).element, 'job');

// It is told by an error or by the end of the connection, sooner or later in the handshake.
const stranger = new Redis({ host, port, tls: { ca }, retryStrategy: null, maxRetriesPerRequest: 0 });
stranger.on('error', () => {});
await assert.rejects(stranger.ping());
const plain = connect(port, host);
plain.write('PING\r\n');
let answer = '';
plain.on('data', (part) => { answer += part.toString('latin1'); });
plain.on('error', () => {});
await new Promise((resolve) => plain.on('close', resolve));
assert.ok(!answer.includes('PONG'));
done();
