// redlock and redis-semaphore: locks by script, given back, extended, lost, waited for; counting semaphores.

import Redis from 'ioredis';
import semaphore from 'redis-semaphore';
import Redlock from 'redlock';
import { assert, done, sleep, until, url } from './scenario.mjs';

const { LostLockError, Mutex, RedlockMutex, Semaphore } = semaphore;
const redis = new Redis(url);

async function redlock() {
    const locks = new Redlock([redis], { retryCount: 3, retryDelay: 20, retryJitter: 5 });
    const lock = await locks.lock(['a', 'b'], 20000);
    await assert.rejects(locks.lock('b', 1000), Redlock.LockError);
    const extended = await lock.extend(30000);
    assert.ok((await redis.pttl('a')) > 20000);
    await extended.unlock();
    assert.equal(await redis.exists('a', 'b'), 0);
    const brief = await locks.lock('a', 30);
    await sleep(80);
    await assert.rejects(brief.unlock(), Redlock.LockError);
    let inside = 0;
    const patient = new Redlock([redis], { retryCount: 500, retryDelay: 10 });
    await Promise.all(Array.from({ length: 5 }, async () => {
        const mine = await patient.lock('c', 20000);
        assert.equal((inside += 1), 1);
        await sleep(5);
        inside -= 1;
        await mine.unlock();
    }));
}

async function semaphores() {
    const first = new Mutex(redis, 'm', { acquireTimeout: 100, lockTimeout: 5000 });
    const second = new Mutex(redis, 'm', { acquireTimeout: 100, lockTimeout: 5000 });
    await first.acquire();
    await assert.rejects(second.acquire());
    assert.equal(await second.tryAcquire(), false);
    await first.release();
    assert.equal(await second.tryAcquire(), true);
    await second.release();
    const places = Array.from({ length: 3 }, () => new Semaphore(redis, 's', 2, { acquireTimeout: 100, lockTimeout: 5000 }));
    await places[0].acquire();
    await places[1].acquire();
    assert.equal(await places[2].tryAcquire(), false);
    await places[0].release();
    assert.equal(await places[2].tryAcquire(), true);
    let given;
    const lost = new RedlockMutex([redis], 'r', { lockTimeout: 200, refreshInterval: 50, onLockLost: (error) => { given = error; } });
    await lost.acquire();
    await redis.del('mutex:r');
    await until(() => given instanceof LostLockError, 'word of the lost lock');
    assert.equal(lost.isAcquired, false);
}

await redlock();
await semaphores();
done();
