"""Dramatiq: its broker is Lua throughout. Results, delays, retries, dead letters, groups, limits and barriers."""

import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import Barrier, ConcurrentRateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimitBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend as ResultBackend
import redis

from scenario import URL, until

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=ResultBackend(url=URL)))
dramatiq.set_broker(broker)
connection = redis.from_url(URL)


@dramatiq.actor(store_results=True)
def add(x, y):
    return x + y


@dramatiq.actor(max_retries=3, min_backoff=10, max_backoff=20, store_results=True)
def third_time():
    if connection.incr("tries") < 3:
        raise ValueError("not yet")
    return "done"


@dramatiq.actor(max_retries=0)
def fails():
    raise ValueError("no")


def limits():
    backend = LimitBackend(url=URL)
    one = ConcurrentRateLimiter(backend, "one", limit=1)
    with one.acquire(raise_on_failure=False) as outer, one.acquire(raise_on_failure=False) as inner:
        assert outer and not inner
    with one.acquire(raise_on_failure=False) as again:
        assert again
    window = WindowRateLimiter(backend, "window", limit=3, window=60)
    allowed = []
    for _ in range(5):
        with window.acquire(raise_on_failure=False) as acquired:
            allowed.append(acquired)
    assert allowed == [True] * 3 + [False] * 2
    barrier = Barrier(backend, "barrier")
    assert barrier.create(2) and not barrier.wait(block=False) and barrier.wait(block=False)


def main():
    worker = dramatiq.Worker(broker, worker_threads=4, worker_timeout=50)
    worker.start()
    assert add.send(2, 3).get_result(block=True, timeout=60_000) == 5
    start = time.time()
    assert add.send_with_options(args=(1, 1), delay=800).get_result(block=True, timeout=60_000) == 2
    assert time.time() - start >= 0.8
    assert third_time.send().get_result(block=True, timeout=60_000) == "done"
    group = dramatiq.group(add.message(n, n) for n in range(20)).run()
    assert list(group.get_results(block=True, timeout=60_000)) == [2 * n for n in range(20)]
    piped = (add.message(1, 1) | add.message(10) | add.message(100)).run()
    assert piped.get_result(block=True, timeout=60_000) == 112
    fails.send()
    until(lambda: connection.zcard("dramatiq:default.XQ") == 1, "a dead letter")
    broker.join("default", timeout=60_000)
    worker.stop()
    limits()
    print("ok")


main()
