"""Valkey GLIDE, whose core is in Rust and speaks through one connection: batches, scripts, pub/sub, scans, streams."""

import asyncio

import glide
from glide import Batch, ExpirySet, ExpiryType, GlideClient, GlideClientConfiguration, NodeAddress, ProtocolVersion

from scenario import HOST, PORT

Modes = GlideClientConfiguration.PubSubChannelModes


async def connect(protocol, subscriptions=None):
    return await GlideClient.create(
        GlideClientConfiguration(
            [NodeAddress(HOST, PORT)],
            protocol=protocol,
            request_timeout=20_000,
            client_name="tests",
            pubsub_subscriptions=subscriptions,
        )
    )


async def values(client):
    assert await client.set("k", "v", expiry=ExpirySet(ExpiryType.SEC, 100)) == "OK" and await client.get("k") == b"v"
    assert await client.set("k", "w", conditional_set=glide.ConditionalChange.ONLY_IF_DOES_NOT_EXIST) is None
    assert 0 < await client.ttl("k") <= 100 and await client.client_getname() == b"tests"
    assert sorted(await asyncio.gather(*(client.incr("n") for _ in range(500)))) == list(range(1, 501))
    assert await client.hset("h", {"a": "1", "b": "2"}) == 2 and await client.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert await client.zadd("z", {"one": 1.0, "two": 2.5}) == 2 and await client.zscore("z", "two") == 2.5
    assert await client.zrange_withscores("z", glide.RangeByIndex(0, -1)) == {b"one": 1.0, b"two": 2.5}
    assert await client.sadd("s", ["x", "y"]) == 2 and await client.smembers("s") == {b"x", b"y"}
    try:
        await client.incr("k")
        raise AssertionError("it is no number")
    except glide.RequestError as error:
        assert "not an integer" in str(error), error
    found, cursor = set(), "0"
    await client.mset({f"scan:{n}": "1" for n in range(500)})
    while True:
        cursor, keys = await client.scan(cursor, match="scan:*", count=100)
        found.update(keys)
        if cursor == b"0":
            break
    assert len(found) == 500


async def batches(client):
    atomic = Batch(is_atomic=True)
    atomic.set("b", "1").incr("b").get("b")
    assert await client.exec(atomic, raise_on_error=True) == ["OK", 2, b"2"]
    pipeline = Batch(is_atomic=False)
    for n in range(300):
        pipeline.rpush("l", [str(n)])
    assert await client.exec(pipeline, raise_on_error=True) == list(range(1, 301))
    script = glide.Script("return {KEYS[1], ARGV[1]}")
    assert await client.invoke_script(script, keys=["a"], args=["b"]) == [b"a", b"b"]
    waiting = asyncio.create_task(client.blpop(["none"], 0.05))
    assert await waiting is None


async def streams(client):
    entry = await client.xadd("st", [("f", "v")])
    assert await client.xgroup_create("st", "g", "0") == "OK"
    read = await client.xreadgroup({"st": ">"}, "g", "c")
    assert read == {b"st": {entry: [[b"f", b"v"]]}}, read
    assert await client.xack("st", "g", [entry]) == 1 and await client.xlen("st") == 1


async def messages(client, protocol):
    channels = {Modes.Exact: {"news"}, Modes.Pattern: {"n?ws.*"}}
    listening = await connect(protocol, GlideClientConfiguration.PubSubSubscriptions(channels, None, None))
    while await client.pubsub_numsub(["news"]) != {b"news": 1} or await client.pubsub_numpat() != 1:
        await asyncio.sleep(0.02)
    await client.publish("hello", "news")
    await client.publish("goal", "news.sport")
    got = [await asyncio.wait_for(listening.get_pubsub_message(), 30) for _ in range(2)]
    assert [(m.channel, m.message) for m in got] == [(b"news", b"hello"), (b"news.sport", b"goal")], got
    await listening.close()


async def main():
    for protocol in (ProtocolVersion.RESP2, ProtocolVersion.RESP3):
        client = await connect(protocol)
        await values(client)
        await batches(client)
        await streams(client)
        if protocol == ProtocolVersion.RESP3:
            await messages(client, protocol)
        await client.flushall()
        await client.close()
    print("ok")


asyncio.run(main())
