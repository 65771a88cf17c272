"""Huey, on a list and on a sorted set (priorities): results, delays, retries, locks, pipelines of tasks, periodic tasks."""

import time

import redis
from huey import PriorityRedisHuey, RedisHuey, crontab
from huey.exceptions import TaskException

from scenario import URL, raises, until, worker

connection = redis.from_url(URL)
huey = RedisHuey("plain", url=URL)
ranked = PriorityRedisHuey("ranked", url=URL)


@huey.task()
def add(x, y):
    return x + y


@huey.task()
def fails():
    raise ValueError("no")


@huey.task(retries=3, retry_delay=0)
def third_time():
    if connection.incr("tries") < 3:
        raise ValueError("not yet")
    connection.set("third", "done")


@huey.task()
@huey.lock_task("one at a time")
def alone():
    assert connection.incr("inside") == 1
    time.sleep(0.3)
    return connection.decr("inside")


@huey.periodic_task(crontab(minute="*"))
def each_minute():
    return None


@ranked.task()
def note(name):
    connection.rpush("order", name)


def main():
    with worker("huey.bin.huey_consumer", "huey_tasks.huey", "--workers=4", "--scheduler-interval=1"):
        assert add(2, 3)(blocking=True, timeout=60) == 5
        start = time.time()
        later = add.schedule((4, 5), delay=1)
        assert later(blocking=True, timeout=60) == 9 and time.time() - start >= 1
        assert raises(TaskException, lambda: fails()(blocking=True, timeout=60))
        third_time()
        until(lambda: connection.get("third") == b"done", "a third try")
        piped = huey.enqueue(add.s(1, 1).then(add, 10).then(add, 100))
        assert piped(blocking=True, timeout=60)[-1] == 112
        results = [result for result in (alone(), alone())]
        outcomes = [raises(TaskException, lambda: result(blocking=True, timeout=60)) for result in results]
        assert sorted(outcomes) == [False, True], "one of two has the lock"
        cancelled = add.schedule((1, 1), delay=3600)
        cancelled.revoke()
        assert cancelled.is_revoked() and until(lambda: huey.scheduled_count() == 1, "what is scheduled")
    for name, priority in (("low", 1), ("high", 9), ("middle", 5)):
        ranked.enqueue(note.s(name, priority=priority))
    with worker("huey.bin.huey_consumer", "huey_tasks.ranked", "--workers=1"):
        until(lambda: connection.llen("order") == 3, "tasks by priority")
    assert connection.lrange("order", 0, -1) == [b"high", b"middle", b"low"]
    print("ok")


if __name__ == "__main__":
    # By its name, as the worker finds it.
    import huey_tasks

    huey_tasks.main()
