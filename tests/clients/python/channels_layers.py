"""channels_redis, both layers: messages to a channel, to groups, across two layers (processes), capacity, expiry."""

import asyncio

from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from scenario import URL


async def receive(layer, channel):
    return await asyncio.wait_for(layer.receive(channel), 30)


async def channels(kind):
    one, two = kind(hosts=[URL]), kind(hosts=[URL])
    name, other = await one.new_channel(), await two.new_channel()
    await two.send(name, {"type": "direct", "text": "hello"})
    assert await receive(one, name) == {"type": "direct", "text": "hello"}
    await one.group_add("room", name)
    await two.group_add("room", other)
    await one.group_send("room", {"type": "all", "n": 1, "bytes": b"\x00\xff"})
    for layer, channel in ((one, name), (two, other)):
        assert await receive(layer, channel) == {"type": "all", "n": 1, "bytes": b"\x00\xff"}
    await two.group_discard("room", other)
    await one.group_send("room", {"type": "all", "n": 2})
    await one.send(other, {"type": "last"})
    assert (await receive(one, name))["n"] == 2 and (await receive(two, other))["type"] == "last"
    await one.flush()
    await asyncio.gather(one.close_pools() if hasattr(one, "close_pools") else asyncio.sleep(0), return_exceptions=True)


async def capacity():
    from channels.exceptions import ChannelFull

    layer = RedisChannelLayer(hosts=[URL], capacity=3, expiry=60)
    for n in range(3):
        await layer.send("queue", {"type": "n", "n": n})
    try:
        await layer.send("queue", {"type": "n", "n": 3})
        raise AssertionError("a fourth message must not fit")
    except ChannelFull:
        pass
    assert [(await receive(layer, "queue"))["n"] for _ in range(3)] == [0, 1, 2]
    await layer.close_pools()
    brief = RedisChannelLayer(hosts=[URL], expiry=1)
    await brief.send("brief", {"type": "lost"})
    await asyncio.sleep(2.2)
    await brief.send("brief", {"type": "kept"})
    assert (await receive(brief, "brief"))["type"] == "kept"
    await brief.close_pools()


async def main():
    await channels(RedisChannelLayer)
    await channels(RedisPubSubChannelLayer)
    await capacity()
    print("ok")


asyncio.run(main())
