"""taskiq: a broker on a list, a broker on a stream, results."""

import asyncio

from taskiq.receiver import Receiver
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from scenario import URL


async def work(kind, name):
    broker = kind(URL, queue_name=name).with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=60))

    @broker.task(task_name=f"{name}:add")
    async def plus(x, y):
        return x + y

    broker.is_worker_process = True
    await broker.startup()
    receiver = Receiver(broker, max_async_tasks=4, run_startup=False)
    stop = asyncio.Event()
    running = asyncio.create_task(receiver.listen(stop))
    tasks = [await plus.kiq(n, n) for n in range(10)]
    results = [await task.wait_result(timeout=60, check_interval=0.02) for task in tasks]
    assert [result.return_value for result in results] == [2 * n for n in range(10)]
    stop.set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await broker.shutdown()


async def main():
    await work(ListQueueBroker, "list")
    await work(RedisStreamBroker, "stream")
    print("ok")


asyncio.run(main())
