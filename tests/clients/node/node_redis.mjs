// node-redis: commands, transactions, pools, scripts, pub/sub, blocking, streams and iterators, in RESP2 and RESP3.

import { createClient, createClientPool, defineScript, RESP_TYPES, WatchError } from 'redis';
import { assert, done, until, url } from './scenario.mjs';

const scripts = {
    add: defineScript({
        NUMBER_OF_KEYS: 1,
        SCRIPT: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
        parseCommand(parser, key, amount) {
            parser.pushKey(key);
            parser.push(String(amount));
        },
        transformReply: (reply) => reply,
    }),
};

async function commands(client) {
    assert.equal(await client.set('k', 'v', { EX: 100 }), 'OK');
    assert.equal(await client.get('k'), 'v');
    assert.equal(await client.set('k', 'w', { NX: true, GET: true }), 'v');
    assert.equal(await client.hSet('h', { a: 1, b: 'two' }), 2);
    assert.deepEqual({ ...(await client.hGetAll('h')) }, { a: '1', b: 'two' });
    assert.equal(await client.zAdd('z', [{ score: 1, value: 'a' }, { score: 2.5, value: 'b' }]), 2);
    assert.deepEqual(await client.zRangeWithScores('z', 0, -1), [{ value: 'a', score: 1 }, { value: 'b', score: 2.5 }]);
    assert.equal(await client.zScore('z', 'b'), 2.5);
    assert.deepEqual(await client.sMembers('none'), []);
    const typed = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    assert.deepEqual(await typed.get('k'), Buffer.from('v'));
    await assert.rejects(client.incr('k'), /ERR value is not an integer/);
    assert.deepEqual(await client.geoAdd('geo', { longitude: 13.361389, latitude: 38.115556, member: 'Palermo' }), 1);
    assert.match(await client.info('server'), /(redis|server)_mode:standalone/);
    assert.deepEqual({ ...(await client.configGet('maxmemory-policy')) }, { 'maxmemory-policy': 'noeviction' });
}

async function transactions(client, pool) {
    assert.deepEqual(await client.multi().set('n', 1).incr('n').get('n').exec(), ['OK', 2, '2']);
    await assert.rejects(client.multi().set('n', 'x').incr('n').exec());
    await pool.execute(async (isolated) => {
        await isolated.watch('n');
        await client.set('n', 5);
        await assert.rejects(isolated.multi().set('n', 6).exec(), WatchError);
    });
    assert.deepEqual(await Promise.all(Array.from({ length: 100 }, () => client.incr('many'))), Array.from({ length: 100 }, (_, n) => n + 1));
    assert.deepEqual(await pool.multi().ping().exec(), ['PONG']);
}

async function messages(client) {
    const sub = await client.duplicate().connect();
    const got = [];
    await sub.subscribe('news', (text, channel) => got.push([channel, text]));
    await sub.pSubscribe('n*', (text, channel) => got.push(['n*', channel, text]));
    assert.equal(await client.publish('news', 'hello'), 2);
    await until(() => got.length === 2, 'messages');
    assert.deepEqual(got, [['news', 'hello'], ['n*', 'news', 'hello']]);
    await sub.sSubscribe('shard', (text) => got.push(text));
    assert.equal(await client.sPublish('shard', 'there'), 1);
    await until(() => got.at(-1) === 'there', 'a message of a shard channel');
    assert.deepEqual({ ...(await client.pubSubNumSub(['news'])) }, { news: 1 });
    await sub.unsubscribe();
    await sub.pUnsubscribe();
    sub.destroy();
}

async function blocking(client, pool) {
    const popped = pool.blPop(['q1', 'q2'], 30);
    await until(async () => /blocked_clients:1/.test(await client.info('clients')), 'a blocked client');
    await client.rPush('q2', 'late');
    assert.deepEqual({ ...(await popped) }, { key: 'q2', element: 'late' });
    assert.equal(await pool.bzPopMin('none', 0.02), null);
}

async function streams(client) {
    await client.xGroupCreate('st', 'g', '$', { MKSTREAM: true });
    const id = await client.xAdd('st', '*', { kind: 'made' });
    const [{ name, messages: read }] = await client.xReadGroup('g', 'c', { key: 'st', id: '>' }, { COUNT: 5 });
    assert.equal(name, 'st');
    assert.equal(read[0].id, id);
    assert.deepEqual({ ...read[0].message }, { kind: 'made' });
    assert.equal((await client.xPending('st', 'g')).pending, 1);
    assert.equal(await client.xAck('st', 'g', id), 1);
    assert.equal((await client.xInfoGroups('st'))[0]['entries-read'], 1);
}

async function iterators(client) {
    const wanted = new Set(Array.from({ length: 500 }, (_, n) => `scan:${n}`));
    await client.mSet([...wanted].map((key) => [key, '1']));
    const found = new Set();
    for await (const keys of client.scanIterator({ MATCH: 'scan:*', COUNT: 50 })) keys.forEach((key) => found.add(key));
    assert.deepEqual(found, wanted);
    await client.hSet('big', Object.fromEntries([...wanted].map((key) => [key, '1'])));
    let fields = 0;
    for await (const entries of client.hScanIterator('big')) fields += entries.length;
    assert.equal(fields, 500);
    await client.zAdd('zbig', [...wanted].map((value, score) => ({ score, value })));
    let members = 0;
    for await (const entries of client.zScanIterator('zbig')) members += entries.length;
    assert.equal(members, 500);
}

for (const RESP of [2, 3]) {
    const client = await createClient({ url, RESP, scripts, name: 'tests' }).connect();
    const pool = await createClientPool({ url, RESP, scripts }).connect();
    assert.equal(await client.clientGetName(), 'tests');
    await commands(client);
    await transactions(client, pool);
    assert.equal(await client.add('scripted', 40), 40);
    assert.equal(await client.add('scripted', 2), 42);
    assert.deepEqual(await client.multi().add('scripted', 1).exec(), [43]);
    await messages(client);
    await blocking(client, pool);
    await streams(client);
    await iterators(client);
    await client.flushAll();
    pool.destroy();
    await client.close();
}
done();
