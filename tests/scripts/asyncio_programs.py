import asyncio
import time


async def work(name, seconds):
    await asyncio.sleep(seconds)
    return name


async def main():
    start = time.monotonic()
    results = await asyncio.gather(*(work(n, 0.05) for n in range(20)))
    # One after the other they would take a second.
    assert time.monotonic() - start < 0.9
    return results


print(asyncio.run(main()))
# Top-level await, and a second loop after the first.
print(await work("awaited", 0))
async with asyncio.TaskGroup() as group:
    tasks = [group.create_task(work(n, 0.001 * (3 - n))) for n in range(3)]
print([task.result() for task in tasks])
try:
    async with asyncio.timeout(0.01):
        await asyncio.sleep(10)
except TimeoutError:
    print("timed out")
queue = asyncio.Queue()


async def produce():
    for n in range(3):
        await queue.put(n)
        await asyncio.sleep(0)


producer = asyncio.create_task(produce())
print([await queue.get() for _ in range(3)])
print(await asyncio.to_thread(sum, [1, 2, 3]))
task = asyncio.create_task(work("never", 60))
await asyncio.sleep(0)
task.cancel()
try:
    await task
except asyncio.CancelledError:
    print("cancelled")
