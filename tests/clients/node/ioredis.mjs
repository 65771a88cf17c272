// ioredis: commands, pipelines, transactions, Lua commands, pub/sub, blocking, streams, scans, automatic pipelining.

import Redis from 'ioredis';
import { once } from 'node:events';
import { assert, done, until, url } from './scenario.mjs';

const redis = new Redis(url);

async function commands() {
    assert.equal(await redis.set('k', 'v', 'EX', 100), 'OK');
    assert.equal(await redis.get('k'), 'v');
    assert.deepEqual(await redis.getBuffer('k'), Buffer.from('v'));
    assert.equal(await redis.set('k', 'w', 'NX'), null);
    assert.equal(await redis.hset('h', { a: 1, b: 'two' }), 2);
    assert.deepEqual(await redis.hgetall('h'), { a: '1', b: 'two' });
    assert.deepEqual(await redis.zadd('z', 1, 'a', 2, 'b'), 2);
    assert.deepEqual(await redis.zrange('z', 0, -1, 'WITHSCORES'), ['a', '1', 'b', '2']);
    assert.deepEqual(await redis.sadd('s', ['x', 'y']), 2);
    assert.deepEqual(await redis.mget('k', 'none'), ['v', null]);
    await assert.rejects(redis.incr('k'), /ERR value is not an integer or out of range/);
    await assert.rejects(redis.lpush('h', 1), /WRONGTYPE/);
    assert.match(await redis.info('server'), /(redis|server)_mode:standalone/);
}

async function pipelines() {
    const replies = await redis.pipeline().set('a', 1).incr('a').lpush('a', 1).get('a').exec();
    assert.deepEqual(replies.map(([error, reply]) => error?.message.split(' ')[0] ?? reply), ['OK', 2, 'WRONGTYPE', '2']);
    assert.deepEqual(await redis.multi().incr('a').get('a').exec(), [[null, 3], [null, '3']]);
    const other = redis.duplicate();
    await other.watch('a');
    await redis.set('a', 100);
    assert.equal(await other.multi().set('a', 1).exec(), null);
    await other.multi({ pipeline: false });
    assert.equal(await other.get('a'), 'QUEUED');
    assert.deepEqual(await other.exec(), [[null, '100']]);
    await assert.rejects(redis.multi().set('a').get('a').exec(), /EXECABORT/);
    other.disconnect();
    const automatic = new Redis(url, { enableAutoPipelining: true });
    const many = await Promise.all(Array.from({ length: 500 }, (_, n) => automatic.incrby('sum', n)));
    assert.equal(many.at(-1), (499 * 500) / 2);
    automatic.disconnect();
}

async function scripts() {
    const scripted = new Redis(url, { keyPrefix: 'app:' });
    scripted.defineCommand('capped', {
        numberOfKeys: 1,
        lua: `local n = redis.call('INCR', KEYS[1])
              if n > tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]); return {0, ARGV[1]} end
              return {1, tostring(n)}`,
    });
    assert.deepEqual(await scripted.capped('n', 1), [1, '1']);
    assert.deepEqual(await scripted.capped('n', 1), [0, '1']);
    assert.equal(await redis.get('app:n'), '1');
    await redis.script('FLUSH');
    assert.deepEqual(await scripted.pipeline().capped('n', 5).capped('n', 5).exec(), [[null, [1, '2']], [null, [1, '3']]]);
    scripted.disconnect();
}

async function messages() {
    const sub = redis.duplicate();
    const got = [];
    sub.on('message', (channel, text) => got.push([channel, text]));
    sub.on('pmessage', (pattern, channel, text) => got.push([pattern, channel, text]));
    assert.equal(await sub.subscribe('news', 'sport'), 2);
    assert.equal(await sub.psubscribe('n*'), 3);
    assert.equal(await redis.publish('news', 'hello'), 2);
    assert.equal(await redis.publish('sport', 'goal'), 1);
    await until(() => got.length === 3, 'messages');
    assert.deepEqual(got, [['news', 'hello'], ['n*', 'news', 'hello'], ['sport', 'goal']]);
    assert.equal(await sub.unsubscribe('news', 'sport'), 1);
    assert.equal(await sub.punsubscribe('n*'), 0);
    assert.equal(await sub.ping(), 'PONG');
    sub.disconnect();
}

async function blocking() {
    const waiter = redis.duplicate();
    const popped = waiter.blpop('q1', 'q2', 30);
    await until(async () => /blocked_clients:1/.test(await redis.info('clients')), 'a blocked client');
    await redis.rpush('q2', 'late');
    assert.deepEqual(await popped, ['q2', 'late']);
    const read = waiter.xread('BLOCK', 30000, 'STREAMS', 'events', '$');
    await until(async () => /blocked_clients:1/.test(await redis.info('clients')), 'a blocked reader');
    const id = await redis.xadd('events', '*', 'kind', 'made');
    assert.deepEqual(await read, [['events', [[id, ['kind', 'made']]]]]);
    waiter.disconnect();
}

async function groups() {
    await redis.xgroup('CREATE', 'jobs', 'g', '$', 'MKSTREAM');
    const id = await redis.xadd('jobs', 'MAXLEN', '~', 1000, '*', 'n', 1);
    assert.deepEqual(await redis.xreadgroup('GROUP', 'g', 'c', 'COUNT', 10, 'STREAMS', 'jobs', '>'), [['jobs', [[id, ['n', '1']]]]]);
    assert.deepEqual((await redis.xpending('jobs', 'g')).slice(0, 3), [1, id, id]);
    assert.equal(await redis.xack('jobs', 'g', id), 1);
}

// What a scan stream gives, all of it.
async function all(stream) {
    const found = [];
    stream.on('data', (part) => found.push(...part));
    await once(stream, 'end');
    return found;
}

async function scans() {
    const wanted = Array.from({ length: 700 }, (_, n) => `scan:${n}`);
    await redis.mset(Object.fromEntries(wanted.map((key) => [key, 1])));
    assert.deepEqual(new Set(await all(redis.scanStream({ match: 'scan:*', count: 50 }))), new Set(wanted));
    await redis.sadd('sset', wanted);
    assert.deepEqual(new Set(await all(redis.sscanStream('sset'))), new Set(wanted));
    await redis.zadd('zset', ...wanted.flatMap((member, n) => [n, member]));
    assert.equal((await all(redis.zscanStream('zset', { match: 'scan:69?' }))).length, 20);
}

async function monitor() {
    const watcher = await redis.monitor();
    const seen = [];
    watcher.on('monitor', (_time, words) => seen.push(words.join(' ')));
    await redis.set('seen', 1);
    await until(() => seen.includes('set seen 1'), 'the monitored command');
    watcher.disconnect();
}

for (const part of [commands, pipelines, scripts, messages, blocking, groups, scans, monitor]) await part();
assert.equal(await redis.quit(), 'OK');
done();
