#!/usr/bin/env python3
"""The queries of bench/postgres_queries.c in asyncpg with uvloop and in psycopg2, and by pgbench where a query
can be given to it, beside what the C program measures in the same rounds: one line for each query, in
microseconds a query and with ratios to libpq."""
import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

try:
    import asyncpg
    import uvloop
except ImportError:
    asyncpg = None
try:
    import psycopg2
    import psycopg2.extras
except ImportError:
    psycopg2 = None

TOP = Path(__file__).resolve().parents[1]
MANY, POINTS = 1000, 10000
PG_TYPE = ("select typname, typnamespace, typowner, typlen, typbyval, typcategory, typispreferred, typisdefined,"
           " typdelim, typrelid, typelem, typarray from pg_type where typtypmod = $1 and typisdefined = $2")
BATCH_ROW = (10, 11, 10, "TESTTESTTEST", 10.333, 12341234, "123412341234")
# SQL, arguments, and how many rows an answer has (None: some), by the name of the workload.
QUERIES = {
    "point": ("select id, name from bench_point where id = $1", lambda i: (i * 7919 % POINTS + 1,), 1),
    "pg_type": (PG_TYPE, lambda i: (-1, True), None),
    "generate_series": ("select i from generate_series(1, $1) as i", lambda i: (1000,), 1000),
    "large_object": ("select b from bench_bytes", lambda i: (), 100),
    "arrays": ("select a from bench_arrays", lambda i: (), 100),
    "batch": ("insert into bench_batch values ($1, $2, $3, $4, $5, $6, $7)", None, 0),
    "one_plus_one": ("select 1 + 1", lambda i: (), 1),
}
# Queries of each worker in a round.
CALLS = {"point": 1000, "pg_type": 20, "generate_series": 50, "large_object": 100, "arrays": 30, "batch": 3,
         "one_plus_one": 1000}
PGBENCH = {"point": "\\set id random(1, 10000)\nselect id, name from bench_point where id = :id;\n",
           "generate_series": "select i from generate_series(1, 1000) as i;\n",
           "large_object": "select b from bench_bytes;\n", "arrays": "select a from bench_arrays;\n",
           "one_plus_one": "select 1 + 1;\n"}


def check(rows, count):
    if len(rows) != count if count is not None else len(rows) < 100:
        sys.exit("postgres_queries: a wrong result")


def numbered_to_positional(sql):
    """psycopg2 writes %s for an argument."""
    for number in range(7, 0, -1):
        sql = sql.replace(f"${number}", "%s")
    return sql


class Asyncpg:
    """A connection for each worker, all on one uvloop."""

    def __init__(self, url, work, workers):
        self.sql, self.args, self.count = QUERIES[work]
        self.loop = uvloop.new_event_loop()
        self.connections = [self.loop.run_until_complete(asyncpg.connect(url)) for _ in range(workers)]

    async def one(self, connection, first, calls):
        statement = await connection.prepare(self.sql)
        for i in range(first, first + calls):
            if self.args is None:
                await connection.executemany(self.sql, [BATCH_ROW] * MANY)
            else:
                check(await statement.fetch(*self.args(i)), self.count)

    async def all(self, calls):
        await asyncio.gather(*(self.one(connection, at * calls, calls)
                               for at, connection in enumerate(self.connections)))

    def run(self, calls):
        self.loop.run_until_complete(self.all(calls))

    def close(self):
        for connection in self.connections:
            self.loop.run_until_complete(connection.close())
        self.loop.close()


class Psycopg2:
    """A connection and a thread for each worker."""

    def __init__(self, url, work, workers):
        self.sql, self.args, self.count = QUERIES[work]
        self.sql = numbered_to_positional(self.sql)
        self.connections = [psycopg2.connect(url) for _ in range(workers)]
        for connection in self.connections:
            connection.autocommit = True

    def one(self, connection, first, calls):
        cursor = connection.cursor()
        for i in range(first, first + calls):
            if self.args is None:
                psycopg2.extras.execute_batch(cursor, self.sql, [BATCH_ROW] * MANY)
            else:
                cursor.execute(self.sql, self.args(i))
                check(cursor.fetchall(), self.count)

    def run(self, calls):
        threads = [threading.Thread(target=self.one, args=(connection, at * calls, calls))
                   for at, connection in enumerate(self.connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def close(self):
        for connection in self.connections:
            connection.close()


class Pgbench:
    """One thread of pgbench with a connection for each worker; it drops the rows unread."""

    def __init__(self, url, work, workers):
        self.url, self.workers = url, workers
        self.script = tempfile.NamedTemporaryFile("w", prefix="pier-bench-", suffix=".sql")
        self.script.write(PGBENCH[work])
        self.script.flush()

    def measured(self, calls):
        """Less what connecting costs."""
        (wall, cpu), (least_wall, least_cpu) = timed(self.run, calls + 1), timed(self.run, 1)
        return wall - least_wall, cpu - least_cpu

    def run(self, calls):
        subprocess.run(["pgbench", "-n", "-M", "prepared", "-c", str(self.workers), "-j", "1", "-t", str(calls),
                        "-f", self.script.name, self.url], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def close(self):
        self.script.close()


def cpu_seconds():
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def timed(work, calls):
    wall, cpu = time.monotonic(), cpu_seconds()
    work(calls)
    return time.monotonic() - wall, cpu_seconds() - cpu


def round_of_c(build, url, work, workers, rounds):
    """{way: (wall, cpu)} in microseconds a query."""
    with tempfile.NamedTemporaryFile(prefix="pier-bench-", suffix=".json") as file:
        subprocess.run([build / "bench/postgres_queries", "--work", work, "--threads", str(workers), "--rounds",
                        str(rounds), "--place", "free", "--json", file.name, url], check=True,
                       stdout=subprocess.DEVNULL)
        figures = json.load(file)
    units = int(figures["group"].split(" x ")[1]) * 1000
    return {way["name"]: (way["wall_ns"]["median"] / units, way["cpu_ns"]["median"] / units)
            for way in figures["ways"]}


def measure(build, url, work, workers, rounds):
    kinds = {}
    if asyncpg:
        kinds["asyncpg, uvloop"] = Asyncpg
    if psycopg2:
        kinds["psycopg2"] = Psycopg2
    if work in PGBENCH:
        kinds["pgbench"] = Pgbench
    measured, calls = [], CALLS[work]
    for number in range(rounds):
        # The C program makes the tables anew, so the others connect behind it.
        figures = round_of_c(build, url, work, workers, 3)
        order = [*kinds][number % len(kinds):] + [*kinds][:number % len(kinds)] if kinds else []
        for name in order:
            way = kinds[name](url, work, workers)
            way.run(2)
            wall, cpu = way.measured(calls) if name == "pgbench" else timed(way.run, calls)
            queries = calls * workers / 1e6
            figures[name] = (wall / queries, cpu / queries)
            way.close()
        measured.append(figures)
        print(f"\r{work}: round {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return measured


def print_tables(all_measured, workers):
    for title, index in (("wall", 0), ("CPU", 1)):
        names = [name for name in ("pier blocking", "pier tasks", "pgbench", "asyncpg, uvloop", "psycopg2")
                 if any(name in figures for measured in all_measured.values() for figures in measured)]
        print(f"\n| {title}, {workers} at once | libpq, us | " + " | ".join(names) + " |")
        print("|---|" + "---|" * (len(names) + 1))
        for work, measured in all_measured.items():
            raw = statistics.median(figures["libpq"][index] for figures in measured)
            cells = []
            for name in names:
                ratios = [figures[name][index] / figures["libpq"][index] for figures in measured
                          if name in figures]
                cells.append(f"{statistics.median(ratios):.2f}" if ratios else "-")
            print(f"| `{work}` | {raw:.1f} | " + " | ".join(cells) + " |")


def start_cluster(directory):
    os.chmod(directory, 0o755)
    done = subprocess.run([TOP / "scripts/local-postgres", "start", f"{directory}/pg", "--port", "free",
                           "max_connections=300"], check=True,
                          capture_output=True, text=True)
    return done.stdout.splitlines()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=TOP / "build/release", help="a build with PIER_BUILD_BENCH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="*", default=[10], help="threads, tasks and connections")
    parser.add_argument("--work", nargs="*", choices=QUERIES, help="some of the queries; otherwise all")
    options = parser.parse_args()
    if not asyncpg or not psycopg2:
        print("not there (Debian: python3-asyncpg, python3-uvloop, python3-psycopg2, for /usr/bin/python3):"
              f"{'' if asyncpg else ' asyncpg'}{'' if psycopg2 else ' psycopg2'}")
    with tempfile.TemporaryDirectory(prefix="pier-bench-") as directory:
        url = start_cluster(directory)
        try:
            for workers in options.workers:
                print_tables({work: measure(options.build.resolve(), url, work, workers, options.rounds)
                              for work in options.work or QUERIES}, workers)
        finally:
            subprocess.run([TOP / "scripts/local-postgres", "stop", f"{directory}/pg"], check=False,
                           stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
