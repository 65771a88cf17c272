// node-redis's client-side cache: answers from its own memory, until another client changes the key.

import { BasicClientSideCache, createClient } from 'redis';
import { assert, done, until, url } from './scenario.mjs';

const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 100 });
const cached = await createClient({ url, RESP: 3, clientSideCache: cache }).connect();
const other = await createClient({ url }).connect();
await other.set('k', '1');
for (let n = 0; n < 10; n += 1) assert.equal(await cached.get('k'), '1');
assert.match(await other.info('commandstats'), /cmdstat_get:calls=1,/);
assert.equal(cache.stats().hitCount, 9);
await other.set('k', '2');
await until(async () => (await cached.get('k')) === '2', 'the new value');
await other.flushAll();
await until(async () => (await cached.get('k')) === null, 'the end of all keys');
done();
