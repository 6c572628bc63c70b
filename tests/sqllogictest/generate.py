#!/usr/bin/env python3
"""Writes corpus/arithmetic.test: pseudo-random expressions and what they come to.

usage: generate.py [--check]

The results come from this file's own evaluation of integer arithmetic and three-valued logic, not from a
database; verify.py has both databases agree with them. Expressions that Postgres would refuse (overflow, also of
its 32-bit literals) are thrown away. --check says with exit code 1 whether the file is what would be written.
"""
import hashlib
import sys
from pathlib import Path

PATH = Path(__file__).resolve().parent / "corpus" / "arithmetic.test"
ROWS, PROJECTIONS, FILTERS, AGGREGATES, REALS = 24, 80, 50, 40, 30
THRESHOLD = 8
COLUMNS = "abc"


class Random:
    """Knuth's 64-bit linear congruential generator: the same numbers with every version of Python."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % limit

    def chance(self, percent):
        return self.below(100) < percent

    def pick(self, items):
        return items[self.below(len(items))]


class Refused(Exception):
    pass


def fit(value, wide):
    if value is not None and abs(value) >= (2**62 if wide else 2**31):
        raise Refused
    return value


def divide(x, y):
    """Towards zero, as C does and both databases."""
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


def arithmetic(operator, x, y):
    if x is None or y is None or (operator in "/%" and y == 0):
        return None
    if operator in "/%":
        quotient = divide(x, y)
        return quotient if operator == "/" else x - y * quotient
    return x + y if operator == "+" else x - y if operator == "-" else x * y


def compare(operator, x, y):
    if x is None or y is None:
        return None
    return {"=": x == y, "<>": x != y, "<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}[operator]


def both(x, y):
    return False if x is False or y is False else None if x is None or y is None else True


def negate(x):
    return None if x is None else not x


# An expression is (SQL, function of a row, whether it has 64 bits). Functions raise Refused.


def literal(random):
    value = random.below(100)
    return str(value), lambda row: value, False


def column(random):
    name = random.pick(COLUMNS)
    return name, lambda row: row[name], True


def binary(random, depth):
    operator = random.pick("++--**/%")
    (left, f, wide_left), (right, g, wide_right) = number(random, depth - 1), number(random, depth - 1)
    wide = wide_left or wide_right
    # Of division by zero SQLite makes null, and Postgres an error.
    shown = f"nullif({right}, 0)" if operator in "/%" else right
    return f"({left} {operator} {shown})", lambda row: fit(arithmetic(operator, f(row), g(row)), wide), wide


def conditional(random, depth):
    condition, test = boolean(random, depth - 1)
    (left, f, wide_left), (right, g, wide_right) = number(random, depth - 1), number(random, depth - 1)

    def value(row):
        # Databases may work out both, and constants before they are asked for.
        yes, no = f(row), g(row)
        return yes if test(row) else no
    return f"case when {condition} then {left} else {right} end", value, wide_left or wide_right


def function(random, depth):
    name = random.pick(["abs", "coalesce", "nullif", "-"])
    left, f, wide = number(random, depth - 1)
    if name == "abs":
        return f"abs({left})", lambda row: None if f(row) is None else abs(f(row)), wide
    if name == "-":
        return f"(- {left})", lambda row: None if f(row) is None else -f(row), wide
    right, g, wide_right = number(random, depth - 1)
    if name == "nullif":
        return f"nullif({left}, {right})", lambda row: None if compare("=", f(row), g(row)) else f(row), wide
    return f"coalesce({left}, {right})", lambda row: g(row) if f(row) is None else f(row), wide or wide_right


def number(random, depth):
    if depth <= 0 or random.chance(15):
        return column(random) if random.chance(65) else literal(random)
    return random.pick([binary, binary, binary, conditional, function])(random, depth)


def boolean(random, depth):
    kind = random.below(10)
    if depth > 0 and kind < 5:
        (left, f), (right, g) = boolean(random, depth - 1), boolean(random, depth - 1)
        if kind < 2:
            return f"({left} and {right})", lambda row: both(f(row), g(row))
        if kind < 4:
            return f"({left} or {right})", lambda row: negate(both(negate(f(row)), negate(g(row))))
        return f"not {left}", lambda row: negate(f(row))
    left, f, _ = number(random, depth - 1)
    if kind == 5:
        return f"{left} is null", lambda row: f(row) is None
    if kind == 6:
        values = [random.below(100) for _ in range(3)]
        return f"{left} in ({', '.join(map(str, values))})", lambda row: None if f(row) is None else f(row) in values
    right, g, _ = number(random, depth - 1)
    if kind == 7:
        high = right, g
        low = str(random.below(50))
        return (f"{left} between {low} and {high[0]}",
                lambda row: both(compare(">=", f(row), int(low)), compare("<=", f(row), g(row))))
    operator = random.pick(["=", "<>", "<", "<=", ">", ">="])
    return f"{left} {operator} {right}", lambda row: compare(operator, f(row), g(row))


def real(random, depth):
    """Sums and products of quarters have their value exactly in binary, and in three decimals."""
    if depth <= 0:
        if random.chance(50):
            return "d", lambda row: row["d"]
        value = random.below(80) / 4
        return f"{value:.2f}", lambda row: value
    operator = random.pick("+-+-*")
    (left, f), (right, g) = real(random, depth - 1), real(random, 0)
    return f"({left} {operator} {right})", lambda row: arithmetic(operator, f(row), g(row))


def shown_real(value):
    # Three places are exact for eighths; what has more is thrown away.
    if value is not None and (value * 8 != int(value * 8) or abs(value) >= 1e12):
        raise Refused
    return "NULL" if value is None else "%.3f" % (value + 0.0)


def shown(value):
    return "NULL" if value is None else str(value)


def record(types, order, label, sql, values):
    lines = [" ".join(filter(None, ["query", types, order, label])), sql, "----"]
    if len(values) > THRESHOLD:
        digest = hashlib.md5("".join(value + "\n" for value in values).encode()).hexdigest()
        values = [f"{len(values)} values hashing to {digest}"]
    return "\n".join(lines + values) + "\n"


def many(random, count, make):
    records = []
    while len(records) < count:
        try:
            records.append(make(random, len(records)))
        except Refused:
            pass
    return records


def make_table(random):
    rows = []
    for key in range(1, ROWS + 1):
        row = {name: None if random.chance(12) else random.below(200) - 100 for name in COLUMNS}
        rows.append(dict(row, id=key, d=None if random.chance(10) else (random.below(400) - 200) / 4))
    return rows


def table_records(rows):
    yield f"hash-threshold {THRESHOLD}\n"
    yield ("statement ok\ncreate table n(id integer primary key, a bigint, b bigint, c bigint, "
           "d double precision)\n")
    values = ",\n  ".join(f"({row['id']}, {', '.join(sql_of(row[name]) for name in 'abcd')})" for row in rows)
    yield f"statement count {len(rows)}\ninsert into n values\n  {values}\n"


def sql_of(value):
    return "null" if value is None else str(value)


def main():
    random = Random(20240229)
    rows = make_table(random)

    def projection(random, _):
        sql, value, _ = number(random, 4)
        values = [text for row in rows for text in (str(row["id"]), shown(value(row)))]
        return record("II", "nosort", None, f"select id, {sql} from n order by id", values)

    def selection(random, index):
        sql, test = boolean(random, 3)
        keys = sorted(str(row["id"]) for row in rows if test(row))
        label = f"filter-{index}"
        return "\n".join([record("I", "rowsort", label, f"select id from n where {sql}", keys),
                          record("I", "rowsort", label, f"select id from n where not (not ({sql}))", keys)])

    def aggregate(random, _):
        sql, value, _ = number(random, 3)
        values = [each for each in map(value, rows) if each is not None]
        results = [sum(values) if values else None, len(values), min(values, default=None), max(values, default=None),
                   len(set(values))]
        return record("IIIII", "nosort", None, f"select sum({sql}), count({sql}), min({sql}), max({sql}), "
                      f"count(distinct {sql}) from n", list(map(shown, results)))

    def reals(random, _):
        sql, value = real(random, 3)
        return record("R", "nosort", None, f"select {sql} from n order by id", [shown_real(value(row)) for row in rows])

    records = list(table_records(rows))
    for count, make in ((PROJECTIONS, projection), (FILTERS, selection), (AGGREGATES, aggregate), (REALS, reals)):
        records += many(random, count, make)
    text = "# Written by tests/sqllogictest/generate.py; do not edit.\n\n" + "\n".join(records)
    if sys.argv[1:] == ["--check"]:
        return 0 if PATH.read_text(encoding="utf-8") == text else 1
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    PATH.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
