"""redis-py's client-side cache: it answers from its own memory, until another client changes the key."""

import redis
from redis.cache import CacheConfig

from scenario import HOST, PORT, until


def main():
    cached = redis.Redis(HOST, PORT, protocol=3, decode_responses=True, cache_config=CacheConfig(max_size=100))
    other = redis.Redis(HOST, PORT, decode_responses=True)
    gets = lambda: other.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"]
    other.set("k", "1")
    before = gets()
    assert [cached.get("k") for _ in range(10)] == ["1"] * 10 and gets() == before + 1
    assert cached.get_cache().size == 1
    other.set("k", "2")
    until(lambda: cached.get("k") == "2", "the new value")
    other.delete("k")
    until(lambda: cached.get("k") is None, "the end of the key")
    other.mset({"a": 1, "b": 2})
    assert cached.mget("a", "b") == ["1", "2"]
    other.flushall()
    until(lambda: cached.mget("a", "b") == [None, None], "the end of all keys")
    print("ok")


main()
