#!/usr/bin/env python3
"""Runs the benchmarks and holds the blocking calls to their gates: see bench/README.md."""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import instructions  # noqa: E402

# group, way, busy, figure, gate
GATES = (
    ("sqlite_point", "pier_db_fetch_into", False, "wall", 1.15),
    ("sqlite_many", "pier_writer", False, "instructions", 1.15),
    ("sqlite_scan", "pier_cursor_next", False, "cpu", 1.25),
    ("postgres_point", "pier_db_fetch_into", False, "p50", 1.05),
    ("postgres_point", "pier_db_fetch_into", True, "cpu", 1.20),
    ("postgres_point", "pier_db_fetch_into", False, "instructions", 1.25),
    ("postgres_many", "pier_db_execute_many", False, "wall", 1.10),
    ("postgres_many", "pier_db_execute_many", False, "cpu", 1.10),
    ("postgres_scan", "pier_cursor_next", False, "cpu", 0.60),
    *((f"postgres_queries --work point --threads {n} --connections {n} --place free", "pier blocking", False,
       "wall", 1.05) for n in (1, 4, 16, 64)),
    ("http_get", "pier_http_get", False, "p50", 1.05),
    ("http_get", "pier_http_get", False, "cpu", 1.10),
)


def measure(build, group, busy, rounds):
    """The ratios of a group's ways: {way: {"wall": 1.02, ...}}."""
    with tempfile.NamedTemporaryFile(prefix="pier-bench-", suffix=".json") as file:
        program, *arguments = group.split()
        subprocess.run([build / "bench" / program, *arguments, "--rounds", str(rounds), "--json", file.name,
                        *(["--busy"] if busy else [])], check=True)
        ways = json.load(file)["ways"]
    return {way["name"]: {name: way[f"{name}_ratio"]["median"] for name in ("wall", "p50", "cpu")}
            for way in ways}


def short(group):
    """postgres_queries, 16 threads"""
    words = group.split()
    return f"{words[0]}, {words[words.index('--threads') + 1]} threads" if len(words) > 1 else group


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=instructions.TOP / "build/release",
                        help="a build with PIER_BUILD_BENCH")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    build = options.build.resolve()
    measured, failed, lines = {}, 0, []
    for group, way, busy, figure, gate in GATES:
        if figure == "instructions":
            ratio = instructions.ratios(build, group)[way]
        else:
            if (group, busy) not in measured:
                measured[group, busy] = measure(build, group, busy, options.rounds)
            ratio = measured[group, busy][way][figure]
        held = ratio <= gate
        failed += not held
        state = "one core busy" if busy else ""
        lines.append(f"{'held' if held else 'MISSED':<7}{short(group):<28}{figure:<14}{state:<15}{ratio:.3f} <= {gate}")
    print("\n" + "\n".join(lines))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
