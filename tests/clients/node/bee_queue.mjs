// bee-queue: results, progress, delays, retries with backoff, removal, health.

import Queue from 'bee-queue';
import { once } from 'node:events';
import { assert, done, host, port, until } from './scenario.mjs';

const queue = new Queue('work', { redis: { host, port }, activateDelayedJobs: true, removeOnSuccess: false });
const tries = new Map();
queue.process(5, async (job) => {
    const { kind, x, y } = job.data;
    if (kind === 'add') return x + y;
    if (kind === 'fails') throw new Error('no');
    if (kind === 'progress') {
        job.reportProgress({ page: 3 });
        return 'done';
    }
    tries.set(job.id, (tries.get(job.id) ?? 0) + 1);
    if (tries.get(job.id) < 3) throw new Error('not yet');
    return 'third';
});
await queue.ready();

const job = await queue.createJob({ kind: 'add', x: 2, y: 3 }).save();
assert.deepEqual(await once(job, 'succeeded'), [5]);
const watched = queue.createJob({ kind: 'progress' });
const reported = once(watched, 'progress');
await watched.save();
assert.deepEqual(await reported, [{ page: 3 }]);
const retried = await queue.createJob({ kind: 'retry' }).retries(3).backoff('fixed', 50).save();
assert.deepEqual(await once(retried, 'succeeded'), ['third']);
const broken = await queue.createJob({ kind: 'fails' }).save();
assert.equal((await once(broken, 'failed'))[0].message, 'no');
const start = Date.now();
const late = await queue.createJob({ kind: 'add', x: 1, y: 1 }).delayUntil(start + 800).save();
assert.equal((await queue.checkHealth()).delayed, 1);
assert.deepEqual(await once(late, 'succeeded'), [2]);
assert.ok(Date.now() - start >= 750);
const many = Array.from({ length: 50 }, (_, n) => queue.createJob({ kind: 'add', x: n, y: n }));
const results = many.map((each) => once(each, 'succeeded'));
assert.equal((await queue.saveAll(many)).size, 0);
assert.deepEqual((await Promise.all(results)).map(([sum]) => sum), many.map((_, n) => 2 * n));
const health = await until(async () => {
    const found = await queue.checkHealth();
    return found.succeeded === 54 && found;
}, 'all jobs');
assert.equal(health.failed, 1);
assert.equal((await queue.getJob(job.id)).status, 'succeeded');
await queue.removeJob(job.id);
assert.equal(await queue.getJob(job.id), null);
assert.equal((await queue.getJobs('failed', { size: 100 })).length, 1);
await queue.destroy();
done();
