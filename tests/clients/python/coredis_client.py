"""coredis (RESP3): its cache, which changes of other clients empty; functions; field TTLs; stream groups; pipelines."""

import asyncio

import coredis
from coredis.patterns.cache import LRUCache
from coredis.patterns.streams import GroupConsumer

from scenario import URL

LIBRARY = """#!lua name=numbers
redis.register_function('add', function(keys, args)
    return redis.call('INCRBY', keys[1], args[1])
end)
redis.register_function{
    function_name = 'peek',
    callback = function(keys, args) return redis.call('GET', keys[1]) end,
    flags = { 'no-writes' }
}
"""


async def until(condition):
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


async def functions(client):
    assert await client.function_load(LIBRARY) == "numbers"
    assert await client.fcall("add", ["n"], [40]) == 40 and await client.fcall("add", ["n"], [2]) == 42
    assert await client.fcall_ro("peek", ["n"], []) == "42"
    listed = await client.function_list()
    assert set(listed["numbers"]["functions"]) == {"add", "peek"}, listed
    kept = await client.function_dump()
    assert await client.function_delete("numbers") and not await client.function_list()
    assert await client.function_restore(kept) and await client.fcall("add", ["n"], [1]) == 43
    library = await client.get_library("numbers")
    assert await library["add"](["n"], [7]) == 50
    assert await client.function_flush()


async def field_ttls(client):
    await client.hset("h", {"a": "1", "b": "2"})
    assert tuple(await client.hexpire("h", 100, ["a", "none"])) == (1, -2)
    assert 0 < (await client.httl("h", ["a"]))[0] <= 100 and tuple(await client.hpersist("h", ["a"])) == (1,)
    await client.hpexpire("h", 20, ["b"])

    async def gone():
        return await client.hlen("h") == 1

    await until(gone)


async def streams(client):
    async with GroupConsumer(client, streams=["st"], group="g", consumer="c", auto_create=True, timeout=1000) as consumer:
        await client.xadd("st", {"n": "1"})
        await client.xadd("st", {"n": "2"})
        seen = []
        async for stream, entry in consumer:
            seen.append(entry.field_values["n"])
            await client.xack(stream, "g", [entry.identifier])
            if len(seen) == 2:
                break
    assert seen == ["1", "2"] and (await client.xpending("st", "g")).pending == 0


async def pipelines(client):
    async with client.pipeline(transaction=True) as pipe:
        replies = [pipe.set("p", "1"), pipe.incr("p"), pipe.get("p")]
    assert [await reply for reply in replies] == [True, 2, "2"]
    assert sorted(await asyncio.gather(*(client.incr("many") for _ in range(200)))) == list(range(1, 201))


async def caching(other):
    cache = LRUCache(max_keys=100)
    async with coredis.Redis.from_url(URL, decode_responses=True, cache=cache) as client:
        await other.set("k", "1")
        assert [await client.get("k") for _ in range(10)] == ["1"] * 10
        hits = cache.stats.summary["hits"]
        assert hits >= 8, cache.stats.summary
        await other.set("k", "2")

        async def changed():
            return await client.get("k") == "2"

        await until(changed)
        await other.flushall()

        async def emptied():
            return await client.get("k") is None

        await until(emptied)


async def main():
    async with coredis.Redis.from_url(URL, decode_responses=True) as client:
        for part in (functions, field_ttls, streams, pipelines, caching):
            await part(client)
    print("ok")


asyncio.run(main())
