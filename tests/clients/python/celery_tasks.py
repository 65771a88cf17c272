"""Celery with Redis as broker and as result backend: results, retries, ETA, groups, chords, expiry, revoking, pings."""

import time

import redis
from celery import Celery, chain, chord, group

from scenario import URL, raises, until, worker

app = Celery("celery_tasks", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.update(
    result_expires=3600,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 60, "polling_interval": 0.1},
)


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=3, default_retry_delay=0.2)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@app.task
def fails():
    raise ValueError("no")


@app.task
def when():
    return time.time()


def main():
    stored = redis.from_url(f"{URL}/1")
    with worker("celery", "-A", "celery_tasks", "worker", "--pool=threads", "--concurrency=4", "--loglevel=WARNING"):
        result = add.delay(2, 3)
        assert result.get(timeout=60) == 5 and result.successful()
        assert 3000 < stored.ttl(f"celery-task-meta-{result.id}") <= 3600
        start = time.time()
        assert when.apply_async(countdown=1.5).get(timeout=60) - start >= 1.4
        assert flaky.delay().get(timeout=60) == 2
        assert raises(ValueError, lambda: fails.delay().get(timeout=60))
        assert group(add.s(n, n) for n in range(10))().get(timeout=60) == [2 * n for n in range(10)]
        assert chain(add.s(1, 1), add.s(10))().get(timeout=60) == 12
        assert chord((add.s(n, 1) for n in range(10)), total.s())().get(timeout=60) == 55
        late = add.apply_async((1, 1), countdown=1, expires=0.1)
        assert until(lambda: late.state == "REVOKED", "a task that expired")
        assert [list(reply.values())[0] for reply in app.control.ping(timeout=5)] == [{"ok": "pong"}]
        gone = add.apply_async((1, 1), countdown=3)
        app.control.revoke(gone.id)
        assert until(lambda: gone.state == "REVOKED", "a task that was revoked")
        result.forget()
        assert not stored.exists(f"celery-task-meta-{result.id}")
    print("ok")


if __name__ == "__main__":
    main()
