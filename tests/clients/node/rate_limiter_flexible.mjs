// rate-limiter-flexible on ioredis and on node-redis: points, blocking, penalties, rewards, bursts, a queue.

import Redis from 'ioredis';
import { BurstyRateLimiter, RateLimiterQueue, RateLimiterRedis } from 'rate-limiter-flexible';
import { createClient } from 'redis';
import { assert, done, url } from './scenario.mjs';

const ioredis = new Redis(url);
const nodeRedis = await createClient({ url }).connect();

async function limits(storeClient, keyPrefix) {
    const limiter = new RateLimiterRedis({ storeClient, useRedisPackage: storeClient === nodeRedis, keyPrefix, points: 5, duration: 60, blockDuration: 120 });
    for (let n = 4; n >= 0; n -= 1) assert.equal((await limiter.consume('user')).remainingPoints, n);
    const refused = await limiter.consume('user').catch((result) => result);
    assert.equal(refused.consumedPoints, 6);
    assert.ok(refused.msBeforeNext > 60000 && refused.msBeforeNext <= 120000, 'it is blocked for longer');
    assert.equal((await limiter.get('user')).consumedPoints, 6);
    assert.equal(await limiter.delete('user'), true);
    assert.equal(await limiter.get('user'), null);
    assert.equal((await limiter.penalty('user', 2)).consumedPoints, 2);
    assert.equal((await limiter.reward('user', 1)).consumedPoints, 1);
    await limiter.block('other', 30);
    await assert.rejects(limiter.consume('other').catch((result) => { throw new Error(`${result.msBeforeNext}`); }));
    const together = await Promise.allSettled(Array.from({ length: 20 }, () => limiter.consume('crowd')));
    assert.equal(together.filter((each) => each.status === 'fulfilled').length, 5);
}

await limits(ioredis, 'a');
await limits(nodeRedis, 'b');
const limiter = (points, duration, keyPrefix) => new RateLimiterRedis({ storeClient: ioredis, points, duration, keyPrefix });
const bursty = new BurstyRateLimiter(limiter(1, 60, 'even'), limiter(3, 60, 'burst'));
const taken = await Promise.allSettled(Array.from({ length: 6 }, () => bursty.consume('user')));
assert.equal(taken.filter((each) => each.status === 'fulfilled').length, 4);
const queue = new RateLimiterQueue(limiter(2, 1, 'queue'));
const start = Date.now();
for (let n = 0; n < 5; n += 1) await queue.removeTokens(1);
assert.ok(Date.now() - start >= 1000, 'two in a second');
const even = new RateLimiterRedis({ storeClient: ioredis, points: 4, duration: 2, execEvenly: true, keyPrefix: 'evenly' });
await Promise.all(Array.from({ length: 4 }, () => even.consume('user')));
done();
