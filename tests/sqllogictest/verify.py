#!/usr/bin/env python3
"""Checks test files without Pier: with Python's sqlite3 module and with psql.

usage: verify.py [--fill] [--postgres URL] FILE...

Each record is run on SQLite, and on Postgres where a URL is given, and must give what the file expects.
--fill writes the results of queries that have no "----" into the file, where the databases agree on them: that
is how the expectations of corpus/ were made, before they were read. Needs psql for --postgres.
Exit codes: 0 all as expected, 1 something is not, 2 wrong usage.
"""
import argparse
import decimal
import hashlib
import math
import os
import re
import sqlite3
import subprocess
import sys

NAMES = {"sqlite": ("sqlite", "sqlite3"), "postgresql": ("postgresql", "postgres", "pgsql", "pg")}
FIELD, ROW, NULL = "\x1f", "\x1e", "\x02NULL"


class Record:
    def __init__(self, line):
        self.line = line  # of the first word, from 1
        self.conditions = []
        self.head = []
        self.sql = []
        self.expected = None  # lines, or None where there is no "----"
        self.end = line  # last line of the SQL, from 1

    def runs_on(self, database):
        return all((name.lower() in NAMES[database]) == (word == "onlyif") for word, name in self.conditions)


def parse(lines):
    records, record = [], None
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            record = None
            continue
        words = line.split()
        if record is None:
            record = Record(number)
            records.append(record)
        if not record.head:
            record.line = number
            if words[0] in ("skipif", "onlyif"):
                record.conditions.append(words[:2])
            else:
                record.head = words
            continue
        if record.expected is not None:
            record.expected.append(line)
        elif line.rstrip() == "----":
            record.expected = []
        else:
            record.sql.append(line)
            record.end = number
    return records


def printable(text):
    return "".join(c if " " <= c <= "~" else "@" * len(c.encode()) for c in text) or "(empty)"


def whole(text):
    if text in ("t", "f"):
        return "1" if text == "t" else "0"
    match = re.match(r"\s*[-+]?\d+", text)
    return str(int(match.group())) if match else "0"


def real(text):
    try:
        number = float(text) + 0.0
    except ValueError:
        return "0.000"
    # SQLite's printf has sixteen digits; zeros follow.
    return f"{decimal.Decimal('%.15e' % number):.0f}.000" if 1e16 <= abs(number) < math.inf else "%.3f" % number


def render(letter, value):
    if value is None:
        return "NULL"
    if letter == "T":
        return printable(value)
    return whole(value) if letter == "I" else real(value)


class Sqlite:
    """Runs one record after the other: gives (error, rows, changed); an error is (status, message)."""

    def __init__(self):
        self.db = sqlite3.connect(":memory:", isolation_level=None)

    def run_all(self, records):
        return [self.run("\n".join(record.sql)) for record in records]

    def run(self, sql):
        before = self.db.total_changes
        try:
            if ";\n" in sql:
                self.db.executescript(sql)
                return None, [], 0
            rows = [tuple(map(self.text, row)) for row in self.db.execute(sql).fetchall()]
        except (sqlite3.Error, sqlite3.Warning) as error:
            return (self.status(error), str(error)), [], 0
        changed = self.db.execute("select changes()").fetchone()[0] if self.db.total_changes != before else 0
        return None, rows, changed

    @staticmethod
    def status(error):
        if str(error).startswith(("datatype mismatch", "cannot store ")):
            return "PIER_ETYPE"
        return "PIER_ECONSTRAINT" if isinstance(error, sqlite3.IntegrityError) else "PIER_ESQL"

    @staticmethod
    def text(value):
        if isinstance(value, bytes):
            return "".join(chr(byte) if 32 <= byte <= 126 else "\x01" for byte in value)
        return None if value is None else str(value)


def is_select(record):
    """psql counts rows that were read as well."""
    return record.sql[0].lower().startswith("select")


class Postgres:
    STATUSES = {"23": "PIER_ECONSTRAINT", "22P02": "PIER_ETYPE", "22P03": "PIER_ETYPE"}

    def __init__(self, url):
        self.url = url

    def run_all(self, records):
        schema = f"verify_{os.getpid()}"
        script = [f"\\pset null '{NULL}'", f"create schema {schema};", f"set search_path to {schema};", "\\echo #start"]
        for number, record in enumerate(records):
            end = "" if record.sql[-1].endswith(";") else ";"
            script += ["\n".join(record.sql), end, f"\\echo #end {number} :ERROR :SQLSTATE :ROW_COUNT :LAST_ERROR_MESSAGE",
                       "\\echo #rest"]
        script += ["rollback;", f"drop schema {schema} cascade;"]
        run = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-F", FIELD, "-R", ROW, self.url], text=True, check=False,
                             input="\n".join(script) + "\n", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        results = []
        text = run.stdout.split("#start\n", 1)[1]
        for record, part in zip(records, text.split("#rest\n")):
            rows, end = re.fullmatch(r"(.*)#end (.*)", part, re.S).groups()
            error, state, count, message = (end.split(" ", 4) + [""])[1:5]
            table = [tuple(None if v == NULL else v for v in row.split(FIELD)) for row in rows[:-1].split(ROW)]
            status = self.STATUSES.get(state, self.STATUSES.get(state[:2], "PIER_ESQL"))
            results.append(((status, f"{state}: {message}") if error == "true" else None,
                            table if rows else [], 0 if is_select(record) else int(count)))
        return results


def flatten(record, rows):
    letters, order = record.head[1], (record.head[2:3] or ["nosort"])[0]
    rows = [[render(letter, value) for letter, value in zip(letters, row, strict=True)] for row in rows]
    if order == "rowsort":
        rows.sort(key=lambda row: [value.encode() for value in row])
    values = [value for row in rows for value in row]
    return sorted(values) if order == "valuesort" else values


def hashed(values):
    digest = hashlib.md5("".join(value + "\n" for value in values).encode()).hexdigest()
    return [f"{len(values)} values hashing to {digest}"]


def matches(record, values):
    expected, order = record.expected, record.head[2:3]
    if len(expected) == 1 and " values hashing to " in expected[0]:
        return expected[0].lower() == hashed(values)[0]
    if len(expected) != len(values) and len(record.head[1]) > 1:
        rows = [line.split("\t") if "\t" in line else line.split() for line in expected]
        rows = sorted(rows) if order == ["rowsort"] else rows
        expected = [value for row in rows for value in row]
    return (sorted(expected) if order == ["valuesort"] else expected) == values


def problem_of(record, result):
    error, rows, changed = result
    kind, argument = record.head[0], record.head[1]
    if kind == "statement" and argument == "error":
        if error is None:
            return "succeeded"
        wanted = " ".join(record.head[2:])
        if wanted.startswith("PIER_E"):
            return None if error[0] == wanted else error[1]
        return None if wanted in error[1] else error[1]
    if error is not None:
        return error[1]
    if kind == "statement":
        return f"changed {changed}" if argument == "count" and changed != int(record.head[2]) else None
    try:
        values = flatten(record, rows)
    except ValueError:
        return "other columns"
    if record.expected is None:
        return "no results in the file: " + " | ".join(values) if values else None
    return None if matches(record, values) else "gives " + " | ".join(values)


def layout(record, values):
    columns = len(record.head[1])
    one_line = columns > 1 and all(value and not re.search(r"\s", value) for value in values)
    if len(values) > 60:
        return hashed(values)
    if not one_line:
        return values
    return ["\t".join(values[i:i + columns]) for i in range(0, len(values), columns)]


def fill(lines, records, results):
    """Writes the results behind the SQL of queries that have none."""
    problems = []
    for record in reversed(records):
        if record.head[0] != "query" or record.expected is not None:
            continue
        given = {}
        for database, by_record in results.items():
            if record in by_record and by_record[record][0] is None:
                given[database] = flatten(record, by_record[record][1])
        if not given or any(values != list(given.values())[0] for values in given.values()):
            problems.append(f"{record.line}: the databases do not agree: {given}")
            continue
        lines[record.end:record.end] = ["----"] + layout(record, list(given.values())[0])
    return problems


def check(path, databases, filling):
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    records = parse(lines)
    halts = [i for i, record in enumerate(records) if record.head[0] == "halt" and not record.conditions]
    records = [record for record in records[:min(halts, default=None)] if record.head[0] in ("statement", "query")]
    results, problems = {}, []
    for name, open_database in databases.items():
        mine = [record for record in records if record.runs_on(name)]
        results[name] = dict(zip(mine, open_database().run_all(mine)))
        if filling:
            continue
        for record in mine:
            problem = problem_of(record, results[name][record])
            if problem:
                problems.append(f"{record.line}: {name} {problem}")
    if filling:
        problems = fill(lines, records, results)
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
    for problem in problems:
        print(f"{path}:{problem}")
    return len(records), len(problems)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--postgres", metavar="URL")
    parser.add_argument("files", nargs="+", metavar="FILE")
    options = parser.parse_args()
    databases = {"sqlite": Sqlite}
    if options.postgres:
        databases["postgresql"] = lambda: Postgres(options.postgres)
    totals = [check(path, databases, options.fill) for path in options.files]
    print(f"{sum(n for n, _ in totals)} records, {sum(n for _, n in totals)} not as expected")
    return 1 if any(n for _, n in totals) else 0


if __name__ == "__main__":
    sys.exit(main())
