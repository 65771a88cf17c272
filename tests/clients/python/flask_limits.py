"""Flask-Limiter and the library below it, limits: fixed, moving and sliding windows, all of them Lua; also asyncio."""

import asyncio

import limits
import limits.aio.storage
import limits.aio.strategies
from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits import storage, strategies

from scenario import URL

KINDS = ("FixedWindowRateLimiter", "MovingWindowRateLimiter", "SlidingWindowCounterRateLimiter")


def windows():
    store = storage.storage_from_string(URL)
    assert store.check() is True
    for kind in KINDS:
        limiter = getattr(strategies, kind)(store)
        rate = limits.parse("5 per hour")
        assert [limiter.hit(rate, kind, "user") for _ in range(7)] == [True] * 5 + [False] * 2
        stats = limiter.get_window_stats(rate, kind, "user")
        assert stats.remaining == 0 and limiter.test(rate, kind, "user") is False and limiter.hit(rate, kind, "other")
        limiter.clear(rate, kind, "user")
        assert limiter.hit(rate, kind, "user", cost=3) and not limiter.hit(rate, kind, "user", cost=3)
    assert store.reset() > 0


async def windows_in_asyncio():
    store = storage.storage_from_string(f"async+{URL}")
    for kind in KINDS:
        limiter = getattr(limits.aio.strategies, kind)(store)
        rate = limits.parse("5 per hour")
        hits = [await limiter.hit(rate, kind, "user") for _ in range(7)]
        assert hits == [True] * 5 + [False] * 2, (kind, hits)


def application():
    app = Flask("limited")
    limiter = Limiter(get_remote_address, app=app, storage_uri=URL, strategy="moving-window", headers_enabled=True)

    @app.get("/")
    @limiter.limit("3 per minute")
    def index():
        return "hello"

    client = app.test_client()
    answers = [client.get("/") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["X-RateLimit-Remaining"] == "2"
    limiter.reset()
    assert client.get("/").status_code == 200


windows()
asyncio.run(windows_in_asyncio())
application()
print("ok")
