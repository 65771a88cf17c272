"""redis-py: collections, blocking pops, streams, transactions, pub/sub, locks and scripts, in RESP2 and RESP3."""

import threading

import redis
import redis.lock

from scenario import HOST, PORT, raises, until


def hashes(r):
    assert r.hset("h", mapping={"a": 1, "b": "two"}) == 2 and r.hset("h", "a", "x") == 0
    assert r.hgetall("h") == {"a": "x", "b": "two"} and r.hmget("h", "a", "none") == ["x", None]
    assert r.hincrby("h", "n", 5) == 5 and r.hincrbyfloat("h", "n", 0.5) == 5.5 and r.hlen("h") == 3
    assert r.hdel("h", "n", "none") == 1 and r.hexists("h", "a") and r.hsetnx("h", "a", 1) == 0
    r.hset("big", mapping={f"f{n}": n for n in range(1000)})
    assert dict(r.hscan_iter("big", match="f9*")) == {f"f{n}": str(n) for n in range(1000) if str(n)[0] == "9"}
    assert len(r.hrandfield("big", 10)) == 10


def lists(r):
    assert r.rpush("l", 1, 2, 3) == 3 and r.lpush("l", 0) == 4 and r.lrange("l", 0, -1) == ["0", "1", "2", "3"]
    assert r.lmove("l", "m", "LEFT", "RIGHT") == "0" and r.lpos("l", "3") == 2 and r.linsert("l", "before", 2, 9) == 4
    assert r.lpop("l", 2) == ["1", "9"] and r.ltrim("l", 0, 0) and r.lindex("l", 0) == "2" and r.rpop("none") is None
    assert r.lmpop(2, "none", "l", direction="LEFT") == ["l", ["2"]] and r.blpop(["none"], 0.05) is None
    popped = []
    waiting = threading.Thread(target=lambda: popped.append(r.blpop(["q1", "q2"], 30)))
    waiting.start()
    until(lambda: r.info("clients")["blocked_clients"] == 1, "a blocked client")
    r.rpush("q2", "late")
    waiting.join(30)
    assert list(popped[0]) == ["q2", "late"], popped


def sets(r):
    assert r.sadd("s", *range(300)) == 300 and r.sadd("t", 1, 2, 999) == 3
    assert r.sinter("s", "t") == {"1", "2"} and r.sdiff("t", "s") == {"999"} and r.sintercard(2, ["s", "t"]) == 2
    assert r.smismember("t", [1, 5]) == [1, 0] and r.spop("t") in {"1", "2", "999"} and r.scard("t") == 2
    assert set(r.sscan_iter("s")) == {str(n) for n in range(300)} and r.sunionstore("u", "s", "t") in (300, 301)


def sorted_sets(r):
    assert r.zadd("z", {"a": 1, "b": 2.5, "c": float("inf")}) == 3 and r.zincrby("z", 1, "a") == 2.0
    pairs = r.zrange("z", 0, -1, withscores=True)
    assert [tuple(pair) for pair in pairs] == [("a", 2.0), ("b", 2.5), ("c", float("inf"))], pairs
    assert r.zrangebyscore("z", "(2", "+inf") == ["b", "c"] and r.zrevrange("z", 0, 0) == ["c"]
    assert r.zscore("z", "b") == 2.5 and r.zrank("z", "b") == 1 and r.zcount("z", 2, 3) == 2
    assert r.zadd("z", {"a": 1}, gt=True, ch=True) == 0 and r.zmscore("z", ["a", "none"]) == [2.0, None]
    popped = r.bzpopmin(["none", "z"], 1)
    assert list(popped) == ["z", "a", 2.0], popped
    assert r.zpopmax("z") in ([("c", float("inf"))], [["c", float("inf")]], ["c", float("inf")])
    r.zadd("many", {f"m{n}": n for n in range(1000)})
    assert r.zremrangebyscore("many", 0, 99) == 100 and r.zcard("many") == 900
    assert r.zunionstore("out", {"many": 2, "z": 1}) == 901 and r.zscore("out", "m500") == 1000


def scans_of_sorted_sets(r):
    assert dict(r.zscan_iter("many")) == {f"m{n}": float(n) for n in range(100, 1000)}
    r.rpush("ids", 3, 1, 2)
    r.mset({"w:1": 30, "w:2": 10, "w:3": 20})
    assert r.sort("ids") == ["1", "2", "3"] and r.sort("ids", by="w:*", get="w:*") == ["10", "20", "30"]


def other_types(r):
    r.setbit("bits", 7, 1)
    assert r.bitcount("bits") == 1 and r.bitpos("bits", 1) == 7
    assert r.bitfield("bits").set("u8", "#1", 200).incrby("u8", "#1", 100).execute() == [0, 44]
    assert r.pfadd("hll", *range(1000)) == 1 and abs(r.pfcount("hll") - 1000) < 50
    r.geoadd("geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"))
    assert r.geosearch("geo", longitude=15, latitude=37, radius=100, unit="km") == ["Catania"]
    assert abs(r.geodist("geo", "Palermo", "Catania", "km") - 166.2742) < 0.001


def streams(r):
    ids = [r.xadd("st", {"n": n}) for n in range(5)]
    assert r.xlen("st") == 5 and r.xrange("st", count=1) == [(ids[0], {"n": "0"})]
    assert r.xgroup_create("st", "g", id="0")
    read = r.xreadgroup("g", "one", {"st": ">"}, count=3)
    entries = dict(read)["st"] if isinstance(read, list) else read["st"][0]
    assert [id for id, _ in entries] == ids[:3], read
    assert r.xack("st", "g", ids[0]) == 1 and r.xpending("st", "g")["pending"] == 2
    claimed = r.xautoclaim("st", "g", "two", min_idle_time=0)
    assert [id for id, _ in claimed[1]] == ids[1:3], claimed
    assert r.xinfo_groups("st")[0]["lag"] == 2 and r.xinfo_stream("st")["length"] == 5
    assert raises(redis.ResponseError, lambda: r.xgroup_create("st", "g"))
    assert not r.xread({"st": "$"}, block=20) and r.xtrim("st", maxlen=2, approximate=False) == 3


def transactions(r):
    with r.pipeline() as pipe:
        assert pipe.set("x", 1).incr("x").lrange("x2", 0, -1).execute() == [True, 2, []]
    with r.pipeline() as pipe:
        pipe.watch("x")
        r.set("x", 10)
        pipe.multi()
        pipe.set("x", 5)
        assert raises(redis.WatchError, pipe.execute) and r.get("x") == "10"
    assert r.transaction(lambda pipe: (pipe.multi(), pipe.incr("x")), "x") == [11]


def messages(r):
    with r.pubsub() as sub:
        sub.subscribe("news")
        sub.psubscribe("n?ws.*")
        assert [sub.get_message(timeout=20)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
        assert r.publish("news", "hello") == 1 and r.publish("news.sport", "goal") == 1
        got = [sub.get_message(timeout=20) for _ in range(2)]
        assert [(m["type"], m["channel"], m["data"]) for m in got] == [
            ("message", "news", "hello"),
            ("pmessage", "news.sport", "goal"),
        ], got
        assert r.pubsub_numsub("news") == [("news", 1)] and r.pubsub_numpat() == 1
    r.config_set("notify-keyspace-events", "KEx$")
    with r.pubsub() as sub:
        sub.psubscribe("__keyevent@0__:*")
        sub.get_message(timeout=20)
        r.set("gone", 1, px=30)
        got = [sub.get_message(timeout=20) for _ in range(2)]
        assert [m["channel"] for m in got] == ["__keyevent@0__:set", "__keyevent@0__:expired"], got
    r.config_set("notify-keyspace-events", "")


def locks(r):
    with r.lock("lock", timeout=20, blocking_timeout=1) as lock:
        assert lock.owned() and r.lock("lock", timeout=1).acquire(blocking=False) is False
        assert lock.extend(10) and r.pttl("lock") > 20_000 and lock.reacquire()
    assert not r.exists("lock")
    lost = r.lock("lock", timeout=0.02)
    assert lost.acquire()
    until(lambda: not r.exists("lock"), "the lock's end")
    assert raises(redis.lock.LockNotOwnedError, lost.release)


def scripts(r):
    double = r.register_script("redis.call('SET', KEYS[1], ARGV[1] * 2) return redis.call('GET', KEYS[1])")
    assert double(["d"], [21]) == "42" and double(["d"], [1]) == "2"
    assert r.eval("return {1, 'two', {3.9, false, 'x'}}", 0) == [1, "two", [3, None, "x"]]
    assert raises(redis.ResponseError, lambda: r.eval("return redis.error_reply('ERR mine')", 0))
    assert r.script_exists(double.sha) == [True] and r.script_flush() and r.script_exists(double.sha) == [False]
    with r.pipeline() as pipe:
        double(["d"], [4], client=pipe)
        assert pipe.execute() == ["8"]


def main():
    for protocol in (2, 3):
        r = redis.Redis(HOST, PORT, protocol=protocol, decode_responses=True, socket_timeout=40)
        for part in (hashes, lists, sets, sorted_sets, other_types, streams, transactions, messages, locks, scripts):
            part(r)
        scans_of_sorted_sets(r)
        r.flushall()
    print("ok")


main()
