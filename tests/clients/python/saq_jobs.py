"""SAQ: results, delays, retries, unique jobs; its queue is Lua, sorted sets and pub/sub."""

import asyncio
import time

from saq import Queue, Worker

from scenario import URL


async def add(ctx, *, x, y):
    return x + y


async def second_time(ctx):
    if ctx["job"].attempts < 2:
        raise ValueError("not yet")
    return ctx["job"].attempts


async def main():
    queue = Queue.from_url(URL)
    await queue.connect()
    worker = Worker(queue, functions=[add, second_time], concurrency=4, dequeue_timeout=0.2)
    running = asyncio.create_task(worker.start())
    assert await queue.apply("add", x=2, y=3, timeout=60) == 5
    assert await queue.map("add", [{"x": n, "y": n} for n in range(20)], timeout=60) == [2 * n for n in range(20)]
    later = await queue.enqueue("add", x=1, y=1, scheduled=time.time() + 1)
    await later.refresh(60)
    assert later.result == 2 and later.started / 1000 >= later.scheduled
    again = await queue.enqueue("second_time", retries=3)
    await again.refresh(60)
    assert again.result == 2
    assert await queue.enqueue("add", key="one", x=1, y=1, scheduled=time.time() + 60)
    assert await queue.enqueue("add", key="one", x=1, y=1) is None
    assert await queue.count("incomplete") == 1
    await worker.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await queue.disconnect()
    print("ok")


asyncio.run(main())
