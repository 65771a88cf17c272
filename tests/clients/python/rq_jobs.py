"""RQ: results, failures, retries, dependencies, jobs for later by the worker's scheduler, registries."""

import datetime

import redis
from rq import Queue, Retry
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry

from scenario import URL, until, worker

connection = redis.from_url(URL)


def add(x, y):
    return x + y


def fails():
    raise ValueError("no")


def second_time():
    """Fails when it first runs."""
    if connection.incr("tries") < 2:
        raise ValueError("not yet")
    return "done"


def main():
    queue = Queue("work", connection=connection)
    first = queue.enqueue(add, 2, 3)
    behind = queue.enqueue(add, 10, 20, depends_on=first)
    broken = queue.enqueue(fails)
    again = queue.enqueue(second_time, retry=Retry(max=2))
    later = queue.enqueue_in(datetime.timedelta(seconds=1), add, 4, 5)
    many = queue.enqueue_many([Queue.prepare_data(add, (n, n)) for n in range(20)])
    assert later.id in ScheduledJobRegistry(queue=queue) and behind.get_status() == "deferred"
    assert queue.count == 23
    with worker("rq.cli", "worker", "--url", URL, "--with-scheduler", "--worker-class", "rq.SimpleWorker", "work"):
        until(lambda: all(job.is_finished for job in [first, behind, again, later, *many]), "finished jobs")
        until(lambda: broken.get_status(refresh=True) == "failed", "a failed job")
        assert first.return_value() == 5 and behind.return_value() == 30 and later.return_value() == 9
        assert again.return_value() == "done" and [job.return_value() for job in many] == [2 * n for n in range(20)]
        assert broken.id in FailedJobRegistry(queue=queue) and "ValueError: no" in broken.latest_result().exc_string
        assert first.id in FinishedJobRegistry(queue=queue) and queue.count == 0
        assert 0 < connection.ttl(first.key) <= 500 and Job.fetch(first.id, connection=connection).result == 5
    print("ok")


if __name__ == "__main__":
    # By its name, as the worker finds it.
    import rq_jobs

    rq_jobs.main()
