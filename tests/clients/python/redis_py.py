"""redis-py: connections, strings, keys, pipelines, administration, threads, asyncio, in RESP2 and RESP3.

    python redis_py.py URL

URL is that of a server without keys, REDIS_URL unless it is given. Ends with exit code 0, or with the first assertion
that fails.
"""

import asyncio
import os
import sys
import threading

import redis
import redis.asyncio
import redis.backoff
import redis.retry

URL = sys.argv[1] if len(sys.argv) > 1 else os.environ["REDIS_URL"]


def connection(r, protocol):
    assert r.ping() is True
    assert r.echo("hello") == "hello"
    assert r.client_setname("tests") is True
    assert r.client_getname() == "tests"
    mine = r.client_info()
    assert mine["name"] == "tests" and mine["lib-name"] == "redis-py" and mine["resp"] == str(protocol), mine
    assert int(mine["id"]) == r.client_id()
    assert [c["name"] for c in r.client_list()].count("tests") == 1
    assert r.client_no_evict("on") and r.client_no_touch("off")
    assert r.select(1) is True and r.dbsize() == 0 and r.select(0) is True


def strings(r):
    assert r.set("a", "1") is True
    assert r.get("a") == "1" and r.get("none") is None and r["a"] == "1" and "a" in r and "none" not in r
    assert r.mset({"b": "x", "c": "ü"}) is True
    assert r.mget(["a", "b", "c", "none"]) == ["1", "x", "ü", None]
    assert r.incr("a") == 2 and r.incrby("a", 40) == 42 and r.decr("a") == 41
    assert r.incrbyfloat("f", 0.5) == 0.5
    assert r.append("b", "yz") == 3 and r.strlen("b") == 3 and r.getrange("b", 1, 2) == "yz"
    assert r.set("a", "new", get=True) == "41" and r.getdel("a") == "new" and r.getset("b", "q") == "xyz"
    assert r.getex("b", ex=50) == "q" and 0 < r.ttl("b") <= 50
    assert r.setnx("b", "1") is False and r.msetnx({"b": "1", "n": "1"}) is False
    assert r.lcs("b", "none") == ""


def keys(r):
    r.set("k", "v", ex=100)
    assert 0 < r.ttl("k") <= 100 and 0 < r.pttl("k") <= 100_000
    assert r.expire("k", 200, gt=True) is True and r.expire("k", 100, gt=True) is False
    assert r.persist("k") is True and r.ttl("k") == -1 and r.ttl("none") == -2
    assert r.expire("none", 10) is False and r.exists("k", "k", "none") == 2
    assert r.type("k") == "string" and r.type("none") == "none" and r.object("encoding", "k") == "embstr"
    assert r.rename("k", "k2") is True and r.copy("k2", "k3") is True and r.renamenx("k2", "k3") is False
    assert r.touch("k2", "k3") == 2 and r.unlink("k2", "none") == 1 and r.delete("k3") == 1
    wanted = {f"scan:{n}" for n in range(500)}
    for key in wanted:
        r.set(key, "v")
    assert set(r.scan_iter(match="scan:*", count=50)) == wanted
    assert set(r.scan_iter(match="scan:1*", _type="string")) == {k for k in wanted if k.startswith("scan:1")}
    assert set(r.keys("scan:*")) == wanted
    assert r.memory_usage("scan:1") > 0


def locks(r):
    """A lock as most applications take it: by SET NX PX with a token, given back by the token alone."""
    assert r.set("lock", "token", nx=True, px=10_000) is True
    assert r.set("lock", "other", nx=True, px=10_000) is None
    if "delifeq" in r.command():
        assert r.execute_command("DELIFEQ", "lock", "other") == 0
        assert r.execute_command("DELIFEQ", "lock", "token") == 1
    else:
        assert r.delete("lock") == 1
    assert r.set("lock", "other", nx=True, px=10_000) is True


def pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set(f"p:{n}", n).get(f"p:{n}")
        replies = pipe.execute()
    assert replies == [reply for n in range(1000) for reply in (True, str(n))]
    with r.pipeline(transaction=False) as pipe:
        replies = pipe.set("word", "x").incr("word").get("word").execute(raise_on_error=False)
    assert replies[0] is True and isinstance(replies[1], redis.ResponseError) and replies[2] == "x"


def administration(r):
    info = r.info()
    assert isinstance(info["uptime_in_seconds"], int) and isinstance(info["used_memory"], int)
    assert isinstance(info["mem_fragmentation_ratio"], float)
    assert info["redis_version"].split(".")[0] in ("7", "8")
    assert info["db0"]["keys"] == r.dbsize() and info["role"] == "master"
    assert r.info("commandstats")["cmdstat_get"]["calls"] > 0
    assert r.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
    assert r.config_set("slowlog-log-slower-than", "20000") is True
    assert r.config_get("slowlog-log-slower-than") == {"slowlog-log-slower-than": "20000"}
    assert r.command_count() == len(r.command()) and r.command_getkeys("MSET", "a", 1, "b", 2) == ["a", "b"]
    assert isinstance(r.slowlog_get(), list) and r.slowlog_reset() is True and r.slowlog_len() == 0
    assert r.memory_stats()["keys.count"] == r.dbsize() and r.role()[0] in ("master", b"master")
    assert len(r.time()) == 2 and r.lastsave() is not None and r.wait(0, 10) == 0
    assert isinstance(r.latency_latest(), list)


def errors(r, settings):
    def raises(kind, call):
        try:
            call()
        except kind:
            return True
        return False

    r.set("word", "x")
    assert raises(redis.ResponseError, lambda: r.incr("word"))
    assert raises(redis.ResponseError, lambda: r.execute_command("NOSUCH"))
    if settings["password"] is None:
        return
    # Without this it tries ten times, with seconds between.
    once = settings | {"retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0)}
    assert raises(redis.AuthenticationError, lambda: redis.Redis(**once | {"password": "wrong"}).ping())
    assert raises(redis.AuthenticationError, lambda: redis.Redis(**once | {"password": None}).ping())


def threads(pool):
    """Many threads on one pool of connections, counting together."""

    def count():
        r = redis.Redis(connection_pool=pool)
        for _ in range(200):
            r.incr("together")

    workers = [threading.Thread(target=count) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert redis.Redis(connection_pool=pool).get("together") == "1600"


async def awaited(settings):
    async with redis.asyncio.Redis(**settings) as r:
        await r.set("async", "1", px=50_000)
        assert await r.get("async") == "1"
        assert sorted(await asyncio.gather(*(r.incr("async") for _ in range(50)))) == list(range(2, 52))
        assert "async" in [key async for key in r.scan_iter(match="asy*")]


def bytes_by_default(settings):
    r = redis.Redis(**settings | {"decode_responses": False})
    r.set(b"\x00bin\r\n", b"\xff\x00\r\n")
    assert r.get(b"\x00bin\r\n") == b"\xff\x00\r\n"
    third = redis.Redis.from_url(f"{URL}/3?protocol={settings['protocol']}")
    assert third.dbsize() == 0 and third.connection_pool.connection_kwargs["db"] == 3


def main():
    address = redis.connection.parse_url(URL)
    for protocol in (2, 3):
        settings = {
            "host": address["host"],
            "port": address["port"],
            "password": address.get("password"),
            "protocol": protocol,
            "decode_responses": True,
            "socket_timeout": 20,
        }
        r = redis.Redis(**settings)
        assert r.dbsize() == 0
        connection(redis.Redis(**settings | {"single_connection_client": True}), protocol)
        strings(r)
        keys(r)
        locks(r)
        pipelines(r)
        administration(r)
        errors(r, settings)
        threads(redis.ConnectionPool(**settings))
        asyncio.run(awaited(settings))
        bytes_by_default(settings)
        assert r.flushall() is True and r.dbsize() == 0
    print("ok")


main()
