"""pottery: Redlock, ids, and Python's containers kept in Redis."""

import redis
from pottery import NextID, RedisCounter, RedisDeque, RedisDict, RedisList, RedisSet, Redlock, redis_cache

from scenario import URL, until


def main():
    r = redis.from_url(URL)
    lock = Redlock(key="printer", masters={r}, auto_release_time=20)
    other = Redlock(key="printer", masters={r}, auto_release_time=20)
    assert lock.acquire() and lock.locked() > 0 and not other.acquire(blocking=False)
    lock.extend()
    lock.release()
    assert other.acquire() and not lock.locked()
    other.release()
    with Redlock(key="printer", masters={r}, auto_release_time=0.1):
        pass
    ids = NextID(key="ids", masters={r})
    assert [next(ids) for _ in range(3)] == [1, 2, 3]
    tel = RedisDict({"jack": 4098, "sape": 4139}, redis=r, key="tel")
    tel["guido"] = 4127
    del tel["sape"]
    assert tel == {"jack": 4098, "guido": 4127} and "jack" in tel and len(tel) == 2
    squares = RedisList([1, 4, 9, 16, 25], redis=r, key="squares")
    assert squares[-3:] == [9, 16, 25] and squares.pop() == 25 and len(squares) == 4
    basket = RedisSet({"apple", "orange", "pear"}, redis=r, key="basket")
    assert "orange" in basket and basket & {"apple", "x"} == {"apple"}
    count = RedisCounter("gallahad", redis=r, key="letters")
    assert count["l"] == 2 and count.most_common(1)[0][1] == 3
    deque = RedisDeque("ghi", maxlen=3, redis=r, key="deque")
    deque.append("j")
    assert list(deque) == ["h", "i", "j"]
    calls = []

    @redis_cache(redis=r, key="cached", timeout=60)
    def slow(n):
        calls.append(n)
        return n * n

    assert [slow(3), slow(3)] == [9, 9] and calls == [3]
    assert until(lambda: r.exists("cached"), "the cache")
    print("ok")


main()
