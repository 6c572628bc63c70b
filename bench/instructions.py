#!/usr/bin/env python3
"""Instructions an operation, by valgrind's callgrind: what a wall clock on a busy machine cannot tell.

Each way of a group runs twice, with two numbers of operations; the difference between the two counts, divided by
the difference between the two numbers, leaves start-up and shutdown out. All threads of the process count, the
kernel does not.
"""
import argparse
import collections
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
# How many operations: few and many. One of sqlite_many is a thousand rows.
GROUPS = {"sqlite_point": (200, 1200), "sqlite_many": (2, 22), "postgres_point": (200, 1200),
          "http_get": (200, 1200)}


def ways(program, url):
    listed = subprocess.run([program, "--list", *url], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def profile(program, way, ops, url):
    """The instructions of a whole run, by function; the sum is under None."""
    with tempfile.TemporaryDirectory(prefix="pier-callgrind-") as directory:
        out = f"{directory}/out"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(program),
             "--only", way, "--ops", str(ops), "--rounds", "1", "--warmup", "0", "--no-latency", *url],
            capture_output=True, text=True, check=False)
        collected = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode != 0 or not collected:
            sys.exit(f"instructions.py: {program} --only {way} failed:\n{done.stdout}{done.stderr}")
        annotated = subprocess.run(["callgrind_annotate", "--threshold=100", out], capture_output=True,
                                   text=True, check=True).stdout
    counts = collections.Counter({None: int(collected.group(1))})
    for number, name in re.findall(r"^ *([\d,]+) \([ \d.]+%\) +\S*?:(.+)$", annotated, re.MULTILINE):
        counts[re.sub(r" \[.*/", " [", name)] += int(number.replace(",", ""))
    return counts


def ratios(build, group, url=(), ops=None, top=0):
    """Prints the instructions of each way and gives their ratios to the first."""
    few, many = ops or GROUPS[group]
    program = build.resolve() / "bench" / group
    print(f"\n{group}: {many} operations less {few}\n  {'':<22}{'instructions/op':>16}{'ratio':>8}")
    raw, result = None, {}
    for way in ways(program, url):
        counts = profile(program, way, many, url)
        counts.subtract(profile(program, way, few, url))
        each = counts.pop(None) / (many - few)
        raw = raw or each
        result[way] = each / raw
        print(f"  {way:<22}{each:>16.0f}{result[way]:>8.3f}", flush=True)
        for name, total in counts.most_common(top):
            print(f"  {total / (many - few):>38.0f}  {name}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=TOP / "build/release", help="a build with PIER_BUILD_BENCH")
    parser.add_argument("--ops", type=int, nargs=2, metavar=("FEW", "MANY"), help="default: by the group")
    parser.add_argument("--top", type=int, default=0, metavar="N", help="name the N costliest functions too")
    parser.add_argument("group", nargs="?", choices=GROUPS, help="default: all")
    parser.add_argument("url", nargs="?", help="of the server; default: one of the bench's own")
    options = parser.parse_args()
    if options.ops and not 0 < options.ops[0] < options.ops[1]:
        parser.error("--ops needs two different numbers, the smaller one first")
    for group in [options.group] if options.group else GROUPS:
        ratios(options.build, group, [options.url] if options.url else [], options.ops, options.top)


if __name__ == "__main__":
    main()
