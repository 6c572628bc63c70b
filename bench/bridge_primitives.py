#!/usr/bin/env python3
"""What bench/bridge_primitives measures, in Python's asyncio: nanoseconds each.

A lock and a queue on one event loop, and items from a thread to a coroutine, as asyncio's documentation has it
done: run_coroutine_threadsafe for each item, which alone waits while the queue is full.
"""

import asyncio
import statistics
import sys
import time

ROUNDS, OPERATIONS, ITEMS = 7, 200_000, 5_000


async def locks():
    lock = asyncio.Lock()
    for _ in range(OPERATIONS):
        async with lock:
            pass
    return OPERATIONS


async def queues():
    queue = asyncio.Queue(1024)
    for i in range(OPERATIONS):
        await queue.put(i)
        await queue.get()
    return OPERATIONS


def put_all(loop, queue):
    for i in range(ITEMS):
        asyncio.run_coroutine_threadsafe(queue.put(i), loop).result()


async def hand_over():
    queue = asyncio.Queue(1024)
    loop = asyncio.get_running_loop()
    producer = loop.run_in_executor(None, put_all, loop, queue)
    for _ in range(ITEMS):
        await queue.get()
    await producer
    return ITEMS


async def timed(work):
    start = time.perf_counter_ns()
    count = await work()
    return (time.perf_counter_ns() - start) / count


def main():
    print(f"asyncio of Python {sys.version.split()[0]}, medians of {ROUNDS} rounds, ns each")
    for name, work in (("lock and unlock", locks), ("put and get", queues), ("thread to coroutine", hand_over)):
        print(f"  {name:22} {statistics.median(asyncio.run(timed(work)) for _ in range(ROUNDS)):10.0f}")


if __name__ == "__main__":
    main()
