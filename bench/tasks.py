#!/usr/bin/env python3
"""Tasks of Pier beside those of asyncio, with its own loop and uvloop's: see bench/README.md."""
import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

try:
    import uvloop
except ImportError:
    uvloop = None

TOP = Path(__file__).resolve().parent.parent
CALLS, IDLE, BATCH = 10000, 10000, 64

# figure, limit; nanoseconds, but for the ratio and the bytes
GATES = (("switch", 50), ("await_finished", 20), ("spawn_join", 1000), ("batch_ratio", 1.5),
         ("idle_task", 12 * 1024))


async def nothing():
    pass


async def yield_often(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def switch():
    await asyncio.gather(yield_often(CALLS // 2), yield_often(CALLS // 2))


async def await_finished():
    future = asyncio.get_running_loop().create_future()
    future.set_result(None)
    for _ in range(CALLS):
        await future


async def spawn_join():
    for _ in range(CALLS):
        await asyncio.get_running_loop().create_task(nothing())


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def idle_task():
    before = resident()
    tasks = [asyncio.get_running_loop().create_task(asyncio.sleep(3600)) for _ in range(IDLE)]
    await asyncio.sleep(0)
    size = (resident() - before) / IDLE
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return size


def batch_of_64(loop):
    """Submitted by another thread, then awaited by it."""
    for _ in range(CALLS // 10 // BATCH):
        futures = [asyncio.run_coroutine_threadsafe(nothing(), loop) for _ in range(BATCH)]
        for future in futures:
            future.result()


def measure_python(new_loop):
    """One round: {figure: nanoseconds}."""
    loop, figures = new_loop(), {}
    for name, work in (("switch", switch), ("await_finished", await_finished),
                       ("spawn_join", spawn_join)):
        start = time.perf_counter_ns()
        loop.run_until_complete(work())
        figures[name] = (time.perf_counter_ns() - start) / CALLS
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    start = time.perf_counter_ns()
    batch_of_64(loop)
    figures["batch_of_64"] = (time.perf_counter_ns() - start) / (CALLS // 10 // BATCH * BATCH)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    return figures


def measure_idle(new_loop):
    loop = new_loop()
    size = loop.run_until_complete(idle_task())
    loop.close()
    return size


def measure_pier(build):
    with tempfile.NamedTemporaryFile(prefix="pier-bench-", suffix=".json") as file:
        subprocess.run([build / "bench/tasks", "--rounds", "11", "--ops", "6400", "--json",
                        file.name], check=True, stdout=subprocess.DEVNULL)
        return json.load(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=TOP / "build/release",
                        help="a build with PIER_BUILD_BENCH")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    loops = {"asyncio": asyncio.new_event_loop}
    if uvloop:
        loops["uvloop"] = uvloop.new_event_loop
    else:
        print("uvloop is not there (Debian: python3-uvloop, for /usr/bin/python3)")
    rounds = {"pier": []} | {name: [] for name in loops}
    for _ in range(options.rounds):
        rounds["pier"].append(measure_pier(options.build.resolve()))
        for name, new_loop in loops.items():
            rounds[name].append(measure_python(new_loop))
    for name, new_loop in loops.items():
        rounds[name][0]["idle_task"] = measure_idle(new_loop)
    medians = {way: {figure: statistics.median(r[figure] for r in measured if figure in r)
                     for figure in measured[0]} for way, measured in rounds.items()}
    for figure in medians["pier"]:
        print(f"{figure:<18}" + "".join(f"{way:>10} {values[figure]:>10.2f}"
                                        for way, values in medians.items() if figure in values))
    missed = [figure for figure, gate in GATES if medians["pier"][figure] > gate]
    for figure, gate in GATES:
        print(f"{'MISSED' if figure in missed else 'held':<7}{figure:<18}"
              f"{medians['pier'][figure]:.2f} <= {gate}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
