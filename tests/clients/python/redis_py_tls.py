"""redis-py, its asyncio side and redis-cli over TLS, each side with a certificate; a stranger is refused.

The tests run it as well (tests/tls.rs), with a password.
"""

import asyncio
import os
import ssl
import subprocess
import threading

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from scenario import HOST, raises

PORT = int(os.environ["REDIS_TLS_PORT"])
AUTHORITY, CERTIFICATE, KEY = (os.environ[f"TLS_{name}"] for name in ("AUTHORITY", "CERTIFICATE", "KEY"))
PASSWORD = os.environ.get("REDIS_PASSWORD")


def settings(protocol=2, **more):
    shown = {"ssl_certfile": CERTIFICATE, "ssl_keyfile": KEY}
    common = {"host": HOST, "port": PORT, "password": PASSWORD, "protocol": protocol, "decode_responses": True}
    return {**common, "socket_timeout": 60, "ssl": True, "ssl_ca_certs": AUTHORITY, **(shown | more)}


def values(r):
    large = "x" * 5_000_000
    assert r.set("large", large) and r.get("large") == large and r.strlen("large") == len(large)
    with r.pipeline(transaction=False) as pipe:
        for n in range(5000):
            pipe.set(f"k{n}", n).get(f"k{n}")
        assert pipe.execute()[1::2] == [str(n) for n in range(5000)]
    with r.pipeline() as pipe:
        assert pipe.incr("n").incr("n").execute() == [1, 2]


def waits(r, other):
    served = []
    waiter = threading.Thread(target=lambda: served.append(r.blpop("list", timeout=60)))
    waiter.start()
    assert other.rpush("list", "x") == 1
    waiter.join()
    assert list(served[0]) == ["list", "x"]
    with other.pubsub() as sub:
        sub.subscribe("news")
        assert sub.get_message(timeout=60)["type"] == "subscribe" and r.publish("news", "m" * 200_000) == 1
        assert sub.get_message(timeout=60)["data"] == "m" * 200_000


async def in_asyncio(protocol):
    async with redis.asyncio.Redis(**settings(protocol)) as r:
        assert sorted(await asyncio.gather(*(r.incr("async") for _ in range(50)))) == list(range(1, 51))


def cli(*words):
    command = [os.environ.get("REDIS_CLI", "redis-cli"), "-h", HOST, "-p", str(PORT), "--tls", "--cacert", AUTHORITY]
    command += ["--cert", CERTIFICATE, "--key", KEY]
    env = os.environ | ({"REDISCLI_AUTH": PASSWORD} if PASSWORD else {})
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, env=env).stdout.strip()


def main():
    for protocol in (2, 3):
        with redis.Redis(**settings(protocol)) as r, redis.Redis(**settings(protocol)) as other:
            assert r.ping() is True and r.client_info()["resp"] == str(protocol)
            values(r)
            waits(r, other)
            asyncio.run(in_asyncio(protocol))
            assert cli("GET", "k7") == "7" and cli("PING") == "PONG"
            assert r.flushall() is True
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with redis.Redis(**settings(ssl_min_version=version)) as r:
            assert r.ping()
    once = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 10}
    assert raises(redis.ConnectionError, redis.Redis(**settings(ssl_certfile=None, ssl_keyfile=None, **once)).ping)
    plain = {name: value for name, value in settings(**once).items() if not name.startswith("ssl")}
    assert raises(redis.ConnectionError, redis.Redis(**plain).ping), "without TLS"
    print("ok")


main()
