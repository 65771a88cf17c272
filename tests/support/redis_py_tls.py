"""redis-py over TLS, as applications use it: values small and large, pipelines, messages, commands that wait, asyncio.

    python redis_py_tls.py PORT CA CERT KEY

The server at PORT holds no keys, wants the password `secret` and clients' certificates. Ends with exit code 0, or with
the first assertion that fails.
"""

import asyncio
import sys
import threading

import redis
import redis.asyncio

PORT, CA, CERT, KEY = int(sys.argv[1]), *sys.argv[2:]


def settings(protocol, **more):
    shown = {"ssl_certfile": CERT, "ssl_keyfile": KEY}
    return {
        "port": PORT,
        "password": "secret",
        "protocol": protocol,
        "decode_responses": True,
        "socket_timeout": 20,
        "ssl": True,
        "ssl_ca_certs": CA,
        **(shown | more),
    }


def values(r):
    big = "v" * 3_000_000
    assert r.set("big", big) and r.get("big") == big and r.strlen("big") == len(big)
    with r.pipeline(transaction=False) as p:
        for n in range(5000):
            p.set(f"k{n}", n).get(f"k{n}")
        replies = p.execute()
    assert replies[1::2] == [str(n) for n in range(5000)]
    with r.pipeline() as p:
        assert p.incr("n").incr("n").execute() == [1, 2]


def waits(r, other):
    served = []
    waiter = threading.Thread(target=lambda: served.append(r.blpop("list", timeout=20)))
    waiter.start()
    assert other.rpush("list", "x") == 1
    waiter.join()
    assert list(served[0]) == ["list", "x"]
    listens = other.pubsub()
    listens.subscribe("news")
    assert listens.get_message(timeout=20)["type"] == "subscribe"
    assert r.publish("news", "m" * 200_000) == 1
    assert listens.get_message(timeout=20)["data"] == "m" * 200_000
    listens.close()


async def awaited(protocol):
    async with redis.asyncio.Redis(**settings(protocol)) as r:
        assert sorted(await asyncio.gather(*(r.incr("async") for _ in range(50)))) == list(range(1, 51))


def refused(**more):
    try:
        return redis.Redis(**settings(2, **more)).ping() is not True
    except redis.ConnectionError:
        return True


for protocol in (2, 3):
    r = redis.Redis(**settings(protocol))
    assert r.ping() is True and r.client_info()["resp"] == str(protocol)
    values(r)
    waits(r, redis.Redis(**settings(protocol)))
    asyncio.run(awaited(protocol))
    assert r.flushall() is True
assert refused(ssl_certfile=None, ssl_keyfile=None) and refused(ssl=False)
