"""arq: results, unique job ids, delays, retries, cron jobs, aborting, the health check."""

import asyncio
import time

from arq import Retry, create_pool, cron
from arq.connections import RedisSettings
from arq.jobs import Job, JobStatus
from arq.worker import Worker

from scenario import HOST, PORT

settings = RedisSettings(HOST, PORT)


async def add(ctx, x, y):
    return x + y


async def third_time(ctx):
    if ctx["job_try"] < 3:
        raise Retry(defer=0.05)
    return ctx["job_try"]


async def fails(ctx):
    raise ValueError("no")


async def forever(ctx):
    await asyncio.sleep(3600)


async def tick(ctx):
    await ctx["redis"].incr("ticks")


async def main():
    pool = await create_pool(settings)
    plain = await pool.enqueue_job("add", 2, 3)
    start = time.time()
    later = await pool.enqueue_job("add", 4, 5, _defer_by=1)
    once = await pool.enqueue_job("add", 1, 1, _job_id="once")
    assert await pool.enqueue_job("add", 1, 1, _job_id="once") is None
    assert await later.status() == JobStatus.deferred and await plain.status() == JobStatus.queued
    again = await pool.enqueue_job("third_time")
    broken = await pool.enqueue_job("fails")
    endless = await pool.enqueue_job("forever")
    worker = Worker(
        [add, third_time, fails, forever],
        cron_jobs=[cron(tick, second=set(range(60)), run_at_startup=True)],
        redis_settings=settings,
        poll_delay=0.05,
        handle_signals=False,
        allow_abort_jobs=True,
    )
    running = asyncio.create_task(worker.async_run())
    assert await plain.result(timeout=60) == 5 and await once.result(timeout=60) == 2
    assert await later.result(timeout=60) == 9 and time.time() - start >= 1
    assert await again.result(timeout=60) == 3
    try:
        await broken.result(timeout=60)
        raise AssertionError("it must fail")
    except ValueError as error:
        assert str(error) == "no"
    while await endless.status() != JobStatus.in_progress:
        await asyncio.sleep(0.05)
    assert await endless.abort(timeout=60) is True
    while int(await pool.get("ticks") or 0) < 1:
        await asyncio.sleep(0.05)
    info = await Job("once", pool).result_info()
    assert info.success and info.result == 2 and await pool.exists("arq:queue:health-check") == 1
    assert {result.function for result in await pool.all_job_results()} >= {"add", "third_time", "fails"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await worker.close()
    print("ok")


asyncio.run(main())
