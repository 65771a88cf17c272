// keyv and cache-manager over @keyv/redis: TTLs, namespaces, many keys, iteration, clearing one namespace.

import KeyvRedis from '@keyv/redis';
import { createCache } from 'cache-manager';
import Keyv from 'keyv';
import { createClient } from 'redis';
import { assert, done, until, url } from './scenario.mjs';

const raw = await createClient({ url }).connect();
const users = new Keyv({ store: new KeyvRedis(url), namespace: 'users' });
const other = new Keyv({ store: new KeyvRedis(url), namespace: 'other' });

assert.equal(await users.set('7', { name: 'ü', list: [1, null] }, 60000), true);
assert.deepEqual(await users.get('7'), { name: 'ü', list: [1, null] });
assert.equal(await users.get('none'), undefined);
assert.ok((await raw.keys('users*')).length === 1 && (await raw.ttl((await raw.keys('users*'))[0])) > 0);
await users.set('brief', 1, 30);
await until(async () => (await users.get('brief')) === undefined, 'the end of the key');
await users.setMany(Array.from({ length: 300 }, (_, n) => ({ key: `m${n}`, value: n })));
assert.deepEqual(await users.getMany(['m0', 'm299', 'none']), [0, 299, undefined]);
await other.set('7', 'kept');
const found = new Set();
for await (const [key] of users.iterator()) found.add(key);
assert.equal(found.size, 301);
assert.equal(await users.delete('7'), true);
assert.equal(await users.has('m5'), true);
await users.clear();
assert.equal(await users.get('m5'), undefined);
assert.equal(await other.get('7'), 'kept');

const cache = createCache({ stores: [new Keyv({ store: new KeyvRedis(url), namespace: 'cm' })], ttl: 60000 });
let calls = 0;
const slow = () => cache.wrap('report', async () => (calls += 1), 60000);
assert.deepEqual([await slow(), await slow()], [1, 1]);
await cache.mset([{ key: 'a', value: 1 }, { key: 'b', value: [2] }]);
assert.deepEqual(await cache.mget(['a', 'b']), [1, [2]]);
await cache.mdel(['a']);
assert.equal(await cache.get('a'), undefined);
done();
