// BullMQ: results, delays, retries, priorities, job schedulers, flows, rate limits, events, stalled jobs.

import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq';
import Redis from 'ioredis';
import { assert, done, until, url } from './scenario.mjs';

const connection = new Redis(url, { maxRetriesPerRequest: null });
const order = [];

async function process(job) {
    if (job.name === 'add') return job.data.x + job.data.y;
    if (job.name === 'flaky' && job.attemptsMade < 2) throw new Error('not yet');
    if (job.name === 'fails') throw new Error('no');
    if (job.name === 'parent') return Object.values(await job.getChildrenValues()).reduce((sum, n) => sum + n, 0);
    if (job.name === 'ranked') order.push(job.data.name);
    await job.updateProgress(50);
    await job.log('a line');
    return 'done';
}

const queue = new Queue('work', { connection });
const events = new QueueEvents('work', { connection });
await events.waitUntilReady();
const progress = [];
events.on('progress', ({ data }) => progress.push(data));

// Before there is a worker: priorities decide the order.
for (const [name, priority] of [['low', 9], ['high', 1], ['middle', 5]]) await queue.add('ranked', { name }, { priority });
assert.deepEqual(await queue.getJobCounts('prioritized', 'waiting'), { prioritized: 3, waiting: 0 });
const worker = new Worker('work', process, { connection });
await worker.waitUntilReady();

const sum = await queue.add('add', { x: 2, y: 3 });
assert.equal(await sum.waitUntilFinished(events, 60000), 5);
await until(() => order.length === 3, 'jobs by priority');
assert.deepEqual(order, ['high', 'middle', 'low']);
const start = Date.now();
const late = await queue.add('late', {}, { delay: 800 });
assert.equal(await late.getState(), 'delayed');
assert.equal(await late.waitUntilFinished(events, 60000), 'done');
assert.ok(Date.now() - start >= 750);
const flaky = await queue.add('flaky', {}, { attempts: 3, backoff: { type: 'fixed', delay: 50 } });
assert.equal(await flaky.waitUntilFinished(events, 60000), 'done');
const broken = await queue.add('fails', {});
await assert.rejects(broken.waitUntilFinished(events, 60000), /no/);
assert.equal(await broken.getState(), 'failed');
const many = await queue.addBulk(Array.from({ length: 50 }, (_, n) => ({ name: 'add', data: { x: n, y: n } })));
assert.deepEqual(await Promise.all(many.map((job) => job.waitUntilFinished(events, 60000))), many.map((_, n) => 2 * n));
await until(() => progress.includes(50), 'progress events');
assert.deepEqual((await queue.getJobLogs(late.id)).logs, ['a line']);

await queue.upsertJobScheduler('tick', { every: 200 }, { name: 'tick' });
await until(async () => (await queue.getJobs('completed')).filter((job) => job.name === 'tick').length >= 2, 'repeated jobs');
assert.equal((await queue.getJobSchedulers()).length, 1);
assert.equal(await queue.removeJobScheduler('tick'), true);

const flow = new FlowProducer({ connection });
const { job: parent } = await flow.add({
    name: 'parent',
    queueName: 'work',
    children: [1, 2, 3].map((n) => ({ name: 'add', queueName: 'work', data: { x: n, y: 0 } })),
});
assert.equal(await parent.waitUntilFinished(events, 60000), 6);

await queue.pause();
const held = await queue.add('held', {});
assert.equal(await queue.isPaused(), true);
await queue.resume();
assert.equal(await held.waitUntilFinished(events, 60000), 'done');
assert.equal(await queue.add('once', {}, { deduplication: { id: 'd', ttl: 5000 } }).then((job) => job.id),
    await queue.add('once', {}, { deduplication: { id: 'd', ttl: 5000 } }).then((job) => job.id));

const limited = new Queue('limited', { connection });
const slow = new Worker('limited', async () => Date.now(), { connection, limiter: { max: 2, duration: 500 } });
const limitedEvents = new QueueEvents('limited', { connection });
await limitedEvents.waitUntilReady();
const jobs = await limited.addBulk(Array.from({ length: 5 }, () => ({ name: 'j', data: {} })));
const times = await Promise.all(jobs.map((job) => job.waitUntilFinished(limitedEvents, 60000)));
assert.ok(Math.max(...times) - Math.min(...times) >= 900, 'two in each half second');

await worker.close();
await slow.close();
assert.ok((await queue.clean(0, 1000, 'completed')).length > 50);
await queue.obliterate({ force: true });
assert.deepEqual(await queue.getJobCounts('completed', 'failed', 'waiting'), { completed: 0, failed: 0, waiting: 0 });
done();
