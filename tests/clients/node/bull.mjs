// bull: results, delays, retries, repeated jobs, priorities, pausing, rate limits, events of all processes.

import Queue from 'bull';
import { assert, done, host, port, until } from './scenario.mjs';

const redis = { host, port };
const queue = new Queue('work', { redis });
const order = [];
const finished = [];

for (const [name, priority] of [['low', 9], ['high', 1], ['middle', 5]]) await queue.add('ranked', { name }, { priority });
queue.process('ranked', async (job) => order.push(job.data.name));
queue.process('add', 5, async (job) => job.data.x + job.data.y);
queue.process('flaky', async (job) => {
    if (job.attemptsMade < 2) throw new Error('not yet');
    return 'done';
});
queue.process('fails', async () => {
    throw new Error('no');
});
queue.process('tick', async (job) => job.progress(100));
queue.on('global:completed', (id, result) => finished.push([id, result]));
await queue.isReady();

const sum = await queue.add('add', { x: 2, y: 3 });
assert.equal(await sum.finished(), 5);
await until(() => finished.some(([id, result]) => id === sum.id && result === '5'), 'an event of all processes');
const start = Date.now();
const late = await queue.add('add', { x: 1, y: 1 }, { delay: 800 });
assert.equal(await late.getState(), 'delayed');
assert.equal(await late.finished(), 2);
assert.ok(Date.now() - start >= 750);
assert.equal(await (await queue.add('flaky', {}, { attempts: 3, backoff: 50 })).finished(), 'done');
await assert.rejects((await queue.add('fails', {})).finished(), /no/);
const many = await queue.addBulk(Array.from({ length: 50 }, (_, n) => ({ name: 'add', data: { x: n, y: n } })));
assert.deepEqual(await Promise.all(many.map((job) => job.finished())), many.map((_, n) => 2 * n));
await until(() => order.length === 3, 'jobs by priority');
assert.deepEqual(order, ['high', 'middle', 'low']);

await queue.add('tick', {}, { repeat: { every: 200 } });
await until(async () => (await queue.getCompleted()).filter((job) => job.name === 'tick').length >= 2, 'repeated jobs');
const [repeat] = await queue.getRepeatableJobs();
await queue.removeRepeatableByKey(repeat.key);

await queue.pause();
const held = await queue.add('add', { x: 5, y: 5 });
assert.equal(await held.getState(), 'paused');
await queue.resume();
assert.equal(await held.finished(), 10);
assert.equal((await queue.getJobCounts()).failed, 1);

const limited = new Queue('limited', { redis, limiter: { max: 2, duration: 500 } });
limited.process(async () => Date.now());
const jobs = await Promise.all(Array.from({ length: 5 }, () => limited.add({})));
const times = await Promise.all(jobs.map((job) => job.finished()));
assert.ok(Math.max(...times) - Math.min(...times) >= 900, 'two in each half second');
assert.ok((await queue.clean(0, 'completed')).length > 50);
await queue.obliterate({ force: true });
done();
