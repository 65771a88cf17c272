"""Two older lock libraries: redlock-py (EVAL) and python-redis-lock (scripts, and a list that waiters block on)."""

import threading
import time

import redis
import redis_lock
from redlock import Redlock

from scenario import HOST, PORT, URL, raises


def main():
    manager = Redlock([{"host": HOST, "port": PORT, "db": 0}], retry_count=2)
    lock = manager.lock("resource", 20_000)
    assert lock and lock.resource == "resource" and not manager.lock("resource", 1000)
    manager.unlock(lock)
    assert manager.lock("resource", 1000)

    r = redis.from_url(URL)
    order = []
    first = redis_lock.Lock(r, "printer", expire=30)
    assert first.acquire() and redis_lock.Lock(r, "printer").acquire(blocking=False) is False

    def wait():
        with redis_lock.Lock(r, "printer", expire=30):
            order.append("second")

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.2)
    order.append("first")
    first.extend(60)
    first.release()
    waiting.join(30)
    assert order == ["first", "second"], order
    assert raises(redis_lock.NotAcquired, first.release)
    redis_lock.reset_all(r)
    with redis_lock.Lock(r, "renewed", expire=1, auto_renewal=True):
        time.sleep(1.5)
        assert r.exists("lock:renewed")
    print("ok")


main()
