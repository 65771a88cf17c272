"""django-redis: TTLs, locks, scans by pattern, deletes by scan, versions, compression, the raw client."""

import django
from django.conf import settings
from django.core.cache import cache

from scenario import URL, until

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"{URL}/1",
            "KEY_PREFIX": "app",
            "OPTIONS": {
                "CLIENT_CLASS": "django_redis.client.DefaultClient",
                "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor",
            },
        }
    }
)
django.setup()


def main():
    from django_redis import get_redis_connection

    assert cache.set("k", "v", timeout=100) is True and 0 < cache.ttl("k") <= 100 and 0 < cache.pttl("k") <= 100_000
    assert cache.set("k", "w", nx=True) is False and cache.get("k") == "v" and cache.ttl("none") == 0
    assert cache.persist("k") and cache.ttl("k") is None and cache.expire("k", timeout=5) and cache.pexpire("k", 50_000)
    cache.set_many({f"user:{n}": "x" * 1000 for n in range(500)}, timeout=60)
    assert cache.get("user:7") == "x" * 1000
    assert sorted(cache.iter_keys("user:1*")) == sorted(f"user:{n}" for n in range(500) if str(n)[0] == "1")
    assert len(cache.keys("user:*")) == 500 and cache.delete_pattern("user:1*", itersize=50) == 111
    assert len(cache.keys("user:*")) == 389 and cache.delete_many(["user:2", "user:3", "none"]) == 2
    with cache.lock("lock", timeout=20):
        assert cache.lock("lock", timeout=1, blocking_timeout=0.05).acquire() is False
    assert cache.lock("lock", timeout=1).acquire() is True
    assert cache.set("n", 1) and cache.incr("n", 5) == 6 and cache.incr_version("n") == 2 and cache.get("n", version=2) == 6
    assert cache.get_or_set("made", lambda: [1], 10) == [1] and cache.touch("made", 100) and cache.ttl("made") > 10
    assert cache.sadd("set", "a", "b") == 2 and cache.smembers("set") == {"a", "b"}
    assert cache.hset("hash", "f", {"deep": 1}) == 1 and cache.hkeys("hash") == ["f"] and cache.hexists("hash", "f")
    raw = get_redis_connection()
    assert raw.exists("app:1:user:7") == 1 and raw.info("server")["tcp_port"] > 0
    cache.set("short", 1, timeout=0.05)
    until(lambda: cache.get("short") is None, "the end of the key")
    cache.clear()
    assert cache.get("user:7") is None and raw.dbsize() == 0
    print("ok")


main()
