"""redis-py, its asyncio side and redis-cli over TLS, each side with a certificate; a stranger is refused."""

import asyncio
import os
import ssl
import subprocess

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from scenario import HOST, raises

PORT = int(os.environ["REDIS_TLS_PORT"])
AUTHORITY, CERTIFICATE, KEY = (os.environ[f"TLS_{name}"] for name in ("AUTHORITY", "CERTIFICATE", "KEY"))
SETTINGS = {"host": HOST, "port": PORT, "ssl": True, "ssl_ca_certs": AUTHORITY, "decode_responses": True}
OURS = {"ssl_certfile": CERTIFICATE, "ssl_keyfile": KEY}


async def in_asyncio():
    async with redis.asyncio.Redis(**SETTINGS, **OURS) as r:
        assert sorted(await asyncio.gather(*(r.incr("n") for _ in range(50)))) == list(range(1, 51))


def cli(*words):
    command = ["redis-cli", "-h", HOST, "-p", str(PORT), "--tls", "--cacert", AUTHORITY, "--cert", CERTIFICATE, "--key", KEY]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60).stdout.strip()


def main():
    for protocol in (2, 3):
        r = redis.Redis(**SETTINGS, **OURS, protocol=protocol)
        large = "x" * 5_000_000
        assert r.set("large", large) and r.get("large") == large
        with r.pipeline(transaction=False) as pipe:
            for n in range(2000):
                pipe.set(f"k{n}", n).get(f"k{n}")
            assert pipe.execute()[1::2] == [str(n) for n in range(2000)]
        with r.pubsub() as sub:
            sub.subscribe("news")
            assert sub.get_message(timeout=20)["type"] == "subscribe" and r.publish("news", "hello") == 1
            assert sub.get_message(timeout=20)["data"] == "hello"
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert redis.Redis(**SETTINGS, **OURS, ssl_min_version=version).ping()
    once = {"retry": Retry(NoBackoff(), 0)}
    assert raises(redis.ConnectionError, redis.Redis(**SETTINGS, **once).ping), "no certificate"
    asyncio.run(in_asyncio())
    assert cli("GET", "k7") == "7" and cli("PING") == "PONG"
    print("ok")


main()
