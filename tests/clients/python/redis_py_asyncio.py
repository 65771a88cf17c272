"""redis-py's asyncio side: a pool under load, pub/sub with a reader task, blocking reads, locks, transactions."""

import asyncio

import redis.asyncio as redis

from scenario import URL


async def load(r):
    async def add(n):
        await r.hincrby("total", "sum", n)
        await r.zadd("seen", {str(n): n})

    await asyncio.gather(*(add(n) for n in range(200)))
    assert await r.hget("total", "sum") == str(sum(range(200))) and await r.zcard("seen") == 200


async def messages(r):
    got = []
    async with r.pubsub() as sub:
        await sub.subscribe("news", **{"other": lambda message: got.append(("handler", message["data"]))})

        async def read():
            async for message in sub.listen():
                if message["type"] == "message":
                    got.append((message["channel"], message["data"]))
                    if message["data"] == "end":
                        return

        reader = asyncio.create_task(read())
        while await r.pubsub_numsub("news", "other") != [("news", 1), ("other", 1)]:
            await asyncio.sleep(0.01)
        for channel, text in (("news", "a"), ("other", "b"), ("news", "end")):
            assert await r.publish(channel, text) == 1
        await asyncio.wait_for(reader, 30)
    assert got == [("news", "a"), ("handler", "b"), ("news", "end")], got


async def queue(r):
    """Four consumers wait on one list; each job comes to one of them."""
    done = []

    async def consume():
        while (job := (await r.blpop(["jobs"], 30))[1]) != "stop":
            done.append(job)

    consumers = [asyncio.create_task(consume()) for _ in range(4)]
    for n in range(100):
        await r.rpush("jobs", n)
    await r.rpush("jobs", *["stop"] * 4)
    await asyncio.wait_for(asyncio.gather(*consumers), 30)
    assert sorted(map(int, done)) == list(range(100))


async def stream(r):
    reader = asyncio.create_task(r.xread({"events": "$"}, block=30_000))
    while (await r.info("clients"))["blocked_clients"] != 1:
        await asyncio.sleep(0.01)
    entry = await r.xadd("events", {"kind": "made"})
    read = await reader
    assert (read if isinstance(read, list) else [[k, v[0]] for k, v in read.items()])[0][1] == [(entry, {"kind": "made"})]


async def locks(r):
    inside = peak = 0

    async def critical():
        nonlocal inside, peak
        async with r.lock("lock", timeout=30, sleep=0.01):
            inside += 1
            peak = max(peak, inside)
            await asyncio.sleep(0.005)
            inside -= 1

    await asyncio.gather(*(critical() for _ in range(5)))
    assert peak == 1 and not await r.exists("lock")


async def transactions(r):
    """Everybody adds to the same number, watching it; who comes too late tries again."""

    async def add():
        async def step(pipe):
            value = int(await pipe.get("watched") or 0)
            pipe.multi()
            pipe.set("watched", value + 1)

        await r.transaction(step, "watched")

    await asyncio.gather(*(add() for _ in range(10)))
    assert await r.get("watched") == "10"


async def main():
    for protocol in (2, 3):
        async with redis.from_url(URL, protocol=protocol, decode_responses=True, max_connections=300) as r:
            for part in (load, messages, queue, stream, locks, transactions):
                await asyncio.wait_for(part(r), 60)
            await r.flushall()
    print("ok")


asyncio.run(main())
