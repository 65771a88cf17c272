"""Caches and sessions of Python frameworks: aiocache, cachelib, Flask-Caching, Flask-Session, dogpile.cache."""

import asyncio

import aiocache
import redis
from cachelib import RedisCache
from dogpile.cache import make_region
from flask import Flask, session
from flask_caching import Cache
from flask_session import Session

from scenario import HOST, PORT, URL, until


async def in_asyncio():
    cache = aiocache.Cache(aiocache.Cache.REDIS, endpoint=HOST, port=PORT, namespace="aio", serializer=aiocache.serializers.PickleSerializer())
    assert await cache.set("k", {"a": 1}, ttl=60) and await cache.get("k") == {"a": 1}
    assert await cache.multi_set([("a", 1), ("b", 2)]) and await cache.multi_get(["a", "b", "none"]) == [1, 2, None]
    assert await cache.exists("k") and await cache.delete("k") == 1 and await cache.increment("n", 5) == 5
    async with aiocache.lock.RedLock(cache, "lock", 5):
        await cache.set("locked", 1)
    assert await cache.clear(namespace="aio") and await cache.get("a") is None
    await cache.close()


def plain():
    cache = RedisCache(HOST, PORT, key_prefix="lib:")
    assert cache.set_many({"a": [1], "b": None}) and cache.get_many("a", "b", "none") == [[1], None, None]
    assert cache.add("a", 2) is False and cache.inc("n", 2) == 2 and cache.dec("n") == 1 and cache.has("a")
    assert cache.delete("a") is True and cache.get("a") is None and cache.clear()


def regions():
    region = make_region().configure("dogpile.cache.redis", arguments={"url": URL, "distributed_lock": True, "redis_expiration_time": 60})
    calls = []

    @region.cache_on_arguments()
    def square(n):
        calls.append(n)
        return n * n

    assert [square(3), square(3)] == [9, 9] and calls == [3]
    square.invalidate(3)
    assert square(3) == 9 and calls == [3, 3]


def application():
    app = Flask("cached")
    app.config.update(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=URL, SESSION_TYPE="redis", SESSION_REDIS=redis.from_url(URL))
    Session(app)
    cache = Cache(app)
    calls = []

    @app.get("/page")
    @cache.cached(timeout=60)
    def page():
        calls.append(1)
        return f"{len(calls)}"

    @app.get("/visit")
    def visit():
        session["visits"] = session.get("visits", 0) + 1
        return str(session["visits"])

    client = app.test_client()
    assert [client.get("/page").text for _ in range(3)] == ["1"] * 3
    with app.app_context():
        cache.clear()
    assert client.get("/page").text == "2"
    assert [client.get("/visit").text for _ in range(3)] == ["1", "2", "3"]
    assert app.test_client().get("/visit").text == "1"
    assert until(lambda: len(redis.from_url(URL).keys("session:*")) == 2, "two sessions")


asyncio.run(in_asyncio())
plain()
regions()
application()
print("ok")
