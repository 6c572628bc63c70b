#!/usr/bin/env python3
"""The workloads of bench/sqlite_workloads.c in Python's sqlite3 and, where it is there, aiosqlite,
beside what the C program measures in the same rounds: one table for each workload, in microseconds
an operation and with ratios to sqlite3 called from C."""
import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import aiosqlite
except ImportError:
    aiosqlite = None

TOP = Path(__file__).resolve().parents[1]
ROWS, SOME, MANY = 10000, 100, 1000
ROW = (None, 0x7FFFFFFF, 1 / 3, "this is the text")
SELECT = "select nul, integer, real, text from small where id = ?"
PAGE = "select nul, integer, real, text from small where id >= ? limit 100"
INSERT = "insert into sink(nul, integer, real, text) values (?, ?, ?, ?)"
QUERY = "select last_insert_rowid()"
COLUMNS = "(id integer primary key, nul, integer integer, real real, text text)"
# Name, calls in a round here, and how many of the workload's operations one call is.
WORKLOADS = (("select_1", 1000, 1), ("select_100", 200, 1), ("iterate_100", 200, 1),
             ("insert_1", 2000, 1), ("insert_100", 50, 1), ("open_memory", 50, 1),
             ("open_file", 50, 1), ("query", 1000, 1), ("inserts", 2, MANY),
             ("execute_many", 10, MANY))


def key(i):
    """Rows in the order of the C program."""
    return i * 7919 % (ROWS - SOME) + 1


def check(held):
    if not held:
        sys.exit("sqlite_workloads: a wrong result")


class Blocking:
    """Python's sqlite3, in autocommit, with its cache of prepared statements."""

    def __init__(self, path):
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("pragma synchronous=normal")

    def close(self):
        self.db.close()

    def select_1(self, i):
        check(self.db.execute(SELECT, (key(i),)).fetchone() == ROW)

    def select_100(self, i):
        rows = self.db.execute(PAGE, (key(i),)).fetchall()
        check(len(rows) == SOME and all(row == ROW for row in rows))

    def iterate_100(self, i):
        count = 0
        for row in self.db.execute(PAGE, (key(i),)):
            check(row == ROW)
            count += 1
        check(count == SOME)

    def insert_1(self, _i):
        check(self.db.execute(INSERT, ROW).rowcount == 1)

    def insert_rows(self, count):
        self.db.execute("begin immediate")
        for _ in range(count):
            check(self.db.execute(INSERT, ROW).rowcount == 1)
        self.db.execute("commit")

    def insert_100(self, _i):
        self.insert_rows(SOME)

    def inserts(self, _i):
        self.insert_rows(MANY)

    def execute_many(self, _i):
        self.db.execute("begin immediate")
        check(self.db.executemany(INSERT, [ROW] * MANY).rowcount == MANY)
        self.db.execute("commit")

    def open_memory(self, _i):
        sqlite3.connect(":memory:").close()

    def open_file(self, _i):
        sqlite3.connect(self.path).close()

    def query(self, _i):
        check(self.db.execute(QUERY).fetchone()[0] >= 0)

    def run(self, name, first, calls):
        work = getattr(self, name)
        for i in range(first, first + calls):
            work(i)


class Asynchronous:
    """aiosqlite, every call awaited before the next one is made."""

    def __init__(self, path):
        self.path = path
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.connect())

    async def connect(self):
        self.db = await aiosqlite.connect(self.path, isolation_level=None)
        await self.db.execute("pragma synchronous=normal")

    def close(self):
        self.loop.run_until_complete(self.db.close())
        self.loop.close()

    async def select_1(self, i):
        async with self.db.execute(SELECT, (key(i),)) as cursor:
            check(await cursor.fetchone() == ROW)

    async def select_100(self, i):
        rows = await self.db.execute_fetchall(PAGE, (key(i),))
        check(len(rows) == SOME and all(row == ROW for row in rows))

    async def iterate_100(self, i):
        count = 0
        async with self.db.execute(PAGE, (key(i),)) as cursor:
            async for row in cursor:
                check(row == ROW)
                count += 1
        check(count == SOME)

    async def insert_1(self, _i):
        check((await self.db.execute(INSERT, ROW)).rowcount == 1)

    async def insert_rows(self, count):
        await self.db.execute("begin immediate")
        for _ in range(count):
            check((await self.db.execute(INSERT, ROW)).rowcount == 1)
        await self.db.commit()

    async def insert_100(self, _i):
        await self.insert_rows(SOME)

    async def inserts(self, _i):
        await self.insert_rows(MANY)

    async def execute_many(self, _i):
        await self.db.execute("begin immediate")
        check((await self.db.executemany(INSERT, [ROW] * MANY)).rowcount == MANY)
        await self.db.commit()

    async def open_memory(self, _i):
        async with aiosqlite.connect(":memory:"):
            pass

    async def open_file(self, _i):
        async with aiosqlite.connect(self.path):
            pass

    async def query(self, _i):
        async with self.db.execute(QUERY) as cursor:
            check((await cursor.fetchone())[0] >= 0)

    async def all_of(self, name, first, calls):
        work = getattr(self, name)
        for i in range(first, first + calls):
            await work(i)

    def run(self, name, first, calls):
        self.loop.run_until_complete(self.all_of(name, first, calls))


def make_file(path):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode=wal")
    db.execute(f"create table small{COLUMNS}")
    db.execute(f"create table sink{COLUMNS}")
    db.execute("begin")
    db.executemany("insert into small(nul, integer, real, text) values (?, ?, ?, ?)", [ROW] * ROWS)
    db.execute("commit")
    db.close()


def round_of_c(build, name, rounds):
    """{way: (wall, cpu)} in nanoseconds an operation of the workload."""
    with tempfile.NamedTemporaryFile(prefix="pier-bench-", suffix=".json") as file:
        subprocess.run([build / "bench/sqlite_workloads", name, "--rounds", str(rounds),
                        "--no-latency", "--json", file.name], check=True,
                       stdout=subprocess.DEVNULL)
        figures = json.load(file)
    units = int(figures["group"].split(" x ")[1])
    return {way["name"]: (way["wall_ns"]["median"] / units, way["cpu_ns"]["median"] / units)
            for way in figures["ways"]}


def round_of_python(ways, name, calls, units, number):
    """The same, of the Python ways, beginning with another one each time."""
    figures = {}
    for way in [*ways][number % len(ways):] + [*ways][:number % len(ways)]:
        wall, cpu = time.monotonic_ns(), time.process_time_ns()
        ways[way].run(name, number * calls, calls)
        figures[way] = ((time.monotonic_ns() - wall) / calls / units,
                        (time.process_time_ns() - cpu) / calls / units)
    return figures


def measure(build, path, workload, rounds):
    """The figures of each round: [{way: (wall, cpu)}]."""
    name, calls, units = workload
    ways = {"Python sqlite3": Blocking(path)}
    if aiosqlite:
        ways["aiosqlite"] = Asynchronous(path)
    for way in ways.values():
        way.run(name, 0, calls // 10 + 1)
    measured = []
    for number in range(rounds):
        figures = round_of_c(build, name, 3)
        figures.update(round_of_python(ways, name, calls, units, number))
        measured.append(figures)
    for way in ways.values():
        way.close()
    return measured


def print_measure(title, index, measured):
    medians = {way: statistics.median(figures[way][index] for figures in measured)
               for way in measured[0]}
    longest = max(medians.values())
    print(f"\n  {title:<22} {'us/op':>10} {'min - max':>21} {'ratio':>7} {'min - max':>15}")
    for way, median in medians.items():
        us = [figures[way][index] / 1000 for figures in measured]
        ratios = [figures[way][index] / figures["sqlite3"][index] for figures in measured]
        print(f"  {way:<22} {median / 1000:>10.2f} {min(us):>10.2f} - {max(us):>8.2f} "
              f"{statistics.median(ratios):>7.2f} {min(ratios):>6.2f} - {max(ratios):>6.2f} "
              + "#" * round(median / longest * 40))


def print_ratios(all_measured):
    """All workloads at once, as they stand in bench/README.md."""
    for title, index in (("wall", 0), ("cpu", 1)):
        ways = [way for way in next(iter(all_measured.values()))[0] if way != "sqlite3"]
        print(f"\n| {title} | sqlite3, us | " + " | ".join(ways) + " |")
        print("|---|" + "---|" * (len(ways) + 1))
        for name, measured in all_measured.items():
            raw = statistics.median(figures["sqlite3"][index] for figures in measured) / 1000
            ratios = (statistics.median(figures[way][index] / figures["sqlite3"][index]
                                        for figures in measured) for way in ways)
            print(f"| `{name}` | {raw:.2f} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=TOP / "build/release",
                        help="a build with PIER_BUILD_BENCH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("workload", nargs="*", help="some of them; otherwise all")
    options = parser.parse_args()
    unknown = {*options.workload} - {name for name, _, _ in WORKLOADS}
    if unknown:
        parser.error(f"there is no workload {', '.join(sorted(unknown))}")
    if not aiosqlite:
        print("aiosqlite is not there (Debian: python3-aiosqlite, for /usr/bin/python3)")
    # On one processor, the one that the C program takes.
    allowed = sorted(os.sched_getaffinity(0))
    everywhere, here = {*allowed}, {allowed[1] if len(allowed) > 1 else allowed[0]}
    all_measured = {}
    for workload in WORKLOADS:
        if options.workload and workload[0] not in options.workload:
            continue
        with tempfile.TemporaryDirectory(prefix="pier-bench-") as directory:
            path = f"{directory}/workloads.db"
            make_file(path)
            os.sched_setaffinity(0, here)
            measured = measure(options.build.resolve(), path, workload, options.rounds)
            os.sched_setaffinity(0, everywhere)
        all_measured[workload[0]] = measured
        print(f"\n{workload[0]}: {options.rounds} rounds, on one core")
        print_measure("wall", 0, measured)
        print_measure("cpu", 1, measured)
    print_ratios(all_measured)


if __name__ == "__main__":
    main()
