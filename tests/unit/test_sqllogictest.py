"""The runner of tests/sqllogictest itself: what is wrong in a file must fail, on its line, and with the right code.

The program is taken from $PIER_BUILD_DIR/tests/sqllogictest, or from the build directory given as the first argument.
Where no Postgres can be had its cases are skipped; PIER_TEST_POSTGRES names a server to use instead of a private one.
"""

import contextlib
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "tests/sqllogictest"
TIMEOUT = 40  # seconds for one run: ctest gives all of them a minute, sanitizers included


def program():
    if len(sys.argv) > 1 and Path(sys.argv[1]).is_dir():
        return Path(sys.argv.pop(1)).resolve() / "tests/sqllogictest/sqllogictest"
    if "PIER_BUILD_DIR" in os.environ:
        return Path(os.environ["PIER_BUILD_DIR"]) / "tests/sqllogictest/sqllogictest"
    sys.exit("test_sqllogictest.py: set PIER_BUILD_DIR, or give the build directory as the first argument")


PROGRAM = program()


def command(*arguments):
    # Some kernels run ThreadSanitizer's programs only under a wrapper, which CMake knows.
    wrapper = [word for word in os.environ.get("PIER_TEST_WRAPPER", "").split(";") if word]
    return [*wrapper, str(PROGRAM), *map(str, arguments)]


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, encoding="utf-8", errors="replace", timeout=TIMEOUT,
                          check=False)


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext_(tempfile.TemporaryDirectory(prefix="pier-slt-")))

    def enterContext_(self, context):
        """unittest has this from Python 3.11 on."""
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def write(self, text, name="x.test"):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def check(self, text, *options, status=0, last=None):
        """Runs a file; gives its output without the path before line numbers."""
        path = self.write(text)
        done = run(*options, path)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        if last:
            self.assertEqual(done.stdout.splitlines()[-1], last)
        return done.stdout.replace(f"{path}:", "@")

    def fails(self, text, *wanted, options=()):
        """The last record of a file fails, and the report has these parts."""
        out = self.check(text, *options, status=1)
        self.assertRegex(out, r", 1 failed\n\Z")
        for part in wanted:
            self.assertIn(part, out)
        return out


class Results(Case):
    def test_value__that_is_wrong_fails_with_a_diff(self):
        self.fails("query I\nselect 1\n----\n1\n\n# here\nquery IT\nselect 1, 'a'\nunion all select 2, 'b'\n----\n1\na\n2\nc\n",
                   "@7: the query gives other values\n    select 1, 'a'\n    union all select 2, 'b'\n"
                   "  expected (-) 4 values, got (+) 4; value 4 is the first that differs\n"
                   "      a\n      2\n    - c\n    + b\n\n", "1 passed, 1 failed")

    def test_value__that_is_missing_fails(self):
        self.fails("query I\nselect 1\n----\n1\n2\n", "@1: the query gives other values", "2 values, got (+) 1", "    - 2\n")

    def test_value__that_is_too_many_fails(self):
        self.fails("query I\nselect 1 union all select 2\n----\n1\n", "@1: the query gives other values", "    + 2\n")

    def test_rows__without_expectation_fail(self):
        self.fails("query I\nselect 1\n", "@1: the query gives other values", "0 values, got (+) 1")
        self.fails("query I nosort label\nselect 1\n----\n", "@1: the query gives other values", "0 values, got (+) 1")

    def test_rows__on_a_line_each_are_compared_value_by_value(self):
        rows = "query II\nselect 1, 2 union all select 3, 4\n----\n"
        self.check(rows + "1 2\n3\t4\n")
        self.fails(rows + "1 2\n3 5\n", "value 4 is the first", "    - 5\n    + 4\n")
        self.fails(rows + "1 2\n", "expected (-) 2 values, got (+) 4")
        self.fails(rows + "1 2\n3 4 5\n", "expected (-) 2 values, got (+) 4")
        self.fails(rows + "1 2\n3 4\n5 6\n", "expected (-) 6 values, got (+) 4")

    def test_order__matters_unless_it_is_said_not_to(self):
        self.fails("query I nosort\nselect 2 union all select 1\n----\n1\n2\n", "value 1 is the first")
        self.check("query I rowsort\nselect 2 union all select 1\n----\n1\n2\n")
        self.fails("query II rowsort\nselect 1, 2\n----\n2\n1\n", "value 1 is the first")
        self.check("query II valuesort\nselect 2, 1\n----\n1\n2\n")

    def test_hash__that_is_wrong_fails(self):
        wrong = "b026324c6904b2a9cb4b88d6d61c81d2"
        self.fails(f"query I\nselect 1\n----\n1 values hashing to {wrong}\n",
                   "@1: the query gives other values than those of the hash\n    select 1\n"
                   f"  expected 1 values hashing to {wrong}\n"
                   "  got      1 values hashing to b026324c6904b2a9cb4b88d6d61c81d1\n    + 1\n")

    def test_hash__of_another_number_of_values_fails(self):
        self.fails("query I\nselect 1\n----\n2 values hashing to b026324c6904b2a9cb4b88d6d61c81d1\n", "@1: the query gives")

    def test_long_results__are_shown_in_part_or_as_a_hash(self):
        series = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) select i from n"
        text = f"query I\n{series}\n----\n7\n"
        out = self.fails(text, "    - 7\n    + 1\n    + 2\n", "      ...\n")
        self.assertLess(len(out.splitlines()), 30)
        hashed = "expected 1 values, got 5000 values hashing to "
        self.fails(text, hashed, options=["--hash-threshold", "100"])
        self.fails("hash-threshold 100\n\n" + text, hashed)
        self.assertNotIn(hashed, self.fails("hash-threshold 100\n\n" + text, options=["--hash-threshold", "0"]))

    def test_columns__must_be_as_many_as_letters(self):
        self.fails("query I\nselect 1, 2\n----\n1\n", "@1: the query failed", "the query has 2 columns, not 1")
        self.fails("query II\nselect 1\n----\n1\n", "the query has 1 columns, not 2")
        self.fails("query I\ncreate table t(a)\n", "the query has 0 columns, not 1")

    def test_label__must_stand_for_one_result(self):
        first = "query I nosort same\nselect 1\n----\n1\n\n"
        self.fails(first + "query I nosort same\nselect 2\n----\n2\n",
                   '@6: the query gives other values than line 1, which has the label "same" too')
        self.check(first + "query I nosort other\nselect 2\n----\n2\n")

    def test_label__counts_where_the_query_is_skipped(self):
        first = "query I nosort same\nselect 1\n----\n1\n\nonlyif mysql\nquery I nosort same\nselect 1\n----\n"
        self.check(first + "1\n", last="1 passed, 0 failed")
        self.fails(first + "2\n", "@7: the query gives other values than line 1")
        self.fails(first + "1 values hashing to b026324c6904b2a9cb4b88d6d61c81d2\n", "@7: the query gives other values")

    def test_cursors__give_the_same(self):
        series = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) select i from n"
        good = f"query II\nselect sum(i), count(*) from ({series})\n----\n12502500 5000\n\nquery I\nselect 1 where 1 = 0\n"
        self.check(good, "--cursor", last="2 passed, 0 failed")
        self.fails(f"query I\n{series}\n----\n1\n", "got (+) 5000", options=["--cursor"])
        self.fails("query I\nselect 1, 2\n----\n1\n", "the query has 2 columns, not 1", options=["--cursor"])
        self.fails("query I\nselect * from t\n", "@1: the query failed", "no such table: t", options=["--cursor"])
        self.fails("query I\nselect 1, 2 where 1 = 0\n", "the query has 2 columns, not 1", options=["--cursor"])


class Statements(Case):
    def test_error__that_does_not_come_fails(self):
        self.fails("\n\nstatement error\nselect 1\n", "@3: the statement succeeded, where an error is expected\n    select 1\n")

    def test_error__that_is_not_expected_fails(self):
        self.fails("statement ok\nselect * from t\n", "@1: the statement failed\n", "  PIER_ESQL no such table: t")
        self.fails("query I\nselect * from t\n", "@1: the query failed\n", "  PIER_ESQL no such table: t")
        self.fails("statement count 1\ninsert into t values (1)\n", "@1: the statement failed\n")

    def test_error__must_have_the_text(self):
        self.check("statement error no such table\nselect * from t\n\nstatement error PIER_ESQL\nselect * from t\n")
        self.fails("statement error no such column\nselect * from t\n", "@1: the statement failed with another error\n",
                   "  expected: no such column\n  got:      PIER_ESQL no such table: t")

    def test_count__must_be_right(self):
        table = "statement ok\ncreate table t(a)\n\n"
        self.check(table + "statement count 2\ninsert into t values (1), (2)\n", last="2 passed, 0 failed")
        self.fails(table + "statement count 3\ninsert into t values (1), (2)\n", "@4: the statement changed 2 rows, not 3\n")

    def test_script__stops_at_its_failure(self):
        self.fails("statement ok\ncreate table t(a);\nselect * from u;\n", "@1: the statement failed", "no such table: u")

    def test_zero_records__are_no_failure(self):
        self.check("", last="0 passed, 0 failed")
        self.check("# nothing\n\n\n", last="0 passed, 0 failed")
        self.check("onlyif mysql\nstatement ok\nselect\n", "--verbose", last="0 passed, 0 failed")

    def test_halt__ends_the_file(self):
        self.check("statement ok\nselect 1\n\nhalt\n\nstatement ok\nnonsense\n", last="1 passed, 0 failed")
        self.fails("skipif sqlite\nhalt\n\nstatement ok\nnonsense\n", "@4: the statement failed")


class Malformed(Case):
    def test_records__are_named_by_line_and_the_others_run(self):
        out = self.check("statement ok\nselect 1\n\nnonsense\n\nquery X\nselect 1\n\nquery I\nselect 1\n----\n1\n\n"
                         "statement ok\n\nquery I\nselect 2\n----\n1\n", status=1, last="2 passed, 4 failed")
        self.assertEqual(re.findall(r"^@(\d+): (.*)$", out, re.M), [
            ("4", '"nonsense" is not a kind of record'),
            ("6", 'a query needs a letter T, I or R for each column, not "X"'),
            ("14", "there is no SQL below this line"),
            ("16", "the query gives other values")])

    def test_zero_byte__is_named(self):
        self.fails(b"statement ok\nselect 1\n\nstatement ok\nselect '\0'\n", "@4: there is a zero byte in this record")

    def test_binary_rubbish__is_no_crash(self):
        out = self.check(bytes(range(256)) * 300, status=1)
        self.assertNotRegex(out, "[^\n -~\ufffd]")
        self.check(b"\xff" * 1000, status=1)
        self.check(b"query I\nselect 1\n----\n" + b"\xfe\n" * 1000, status=1)

    def test_line__of_many_megabytes_is_a_line(self):
        text = "query I\nselect length('" + "x" * 900_000 + "')\n----\n900000\n"
        self.check("# " + "-" * 8_000_000 + "\n" + text, last="1 passed, 0 failed")

    def test_many_records__stream(self):
        records = "query I\nselect 1\n----\n1\n\n" * 20_000
        self.check(records, last="20000 passed, 0 failed")


class Program(Case):
    good = "statement ok\ncreate table t(a)\n\nstatement count 1\ninsert into t values (1)\n\nquery I\nselect a from t\n----\n1\n"
    bad = "query I\nselect 1\n----\n2\n"

    def test_codes__are_0_1_and_2(self):
        good, bad = self.write(self.good, "good.test"), self.write(self.bad, "bad.test")
        self.assertEqual(run(good).returncode, 0)
        self.assertEqual(run(bad).returncode, 1)
        self.assertEqual(run(good, bad).returncode, 1)
        self.assertEqual(run("--help").returncode, 0)
        (self.directory / "empty").mkdir()
        usage = [(), ("--unknown", good), (good, self.directory / "missing"), (self.directory / "empty",),
                 ("--jobs", "0", good), ("--jobs", "33", good), ("--jobs", "two", good), ("--jobs",),
                 ("--hash-threshold", "-1", good), ("--hash-threshold", "x", good), ("--db", "mysql://x", good),
                 ("--db", f"sqlite:{good}", good), ("--db", "sqlite:/no/such/directory", good)]
        for arguments in usage:
            with self.subTest(arguments):
                done = run(*arguments)
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, "sqllogictest")
                self.assertEqual(done.stdout, "")

    def test_directory__is_searched_for_tests(self):
        for name in ("a.test", "deep/er/b.test", "c.txt", ".hidden.test", ".test"):
            self.write(self.good, name)
        done = run("--verbose", self.directory)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout.splitlines()[-1], "6 passed, 0 failed")
        self.assertRegex(done.stdout, r"deep/er/b\.test: 3 passed, 0 failed, 0 skipped, \d+\.\d{3} s\n")
        self.assertEqual(run(self.directory / "c.txt").returncode, 0)

    def test_file__that_cannot_be_read_fails(self):
        done = run(self.write(self.good, "a.test"), "/proc/self/mem")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/proc/self/mem:0: cannot read further: Input/output error", done.stdout)

    def test_database__is_fresh_for_each_file(self):
        self.write(self.good, "a.test")
        self.write(self.good, "b.test")
        for options in ([], ["--jobs", "2"], ["--db", f"sqlite:{self.directory}"],
                        ["--db", f"sqlite:{self.directory}?mode=rwc", "--jobs", "2"]):
            with self.subTest(options):
                done = run(*options, self.directory)
                self.assertEqual(done.stdout, "6 passed, 0 failed\n")
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["a.test", "b.test"])

    def test_files__are_databases_of_their_own(self):
        self.check("query I\nselect file <> '' from pragma_database_list where name = 'main'\n----\n1\n", "--db",
                   f"sqlite:{self.directory}")
        self.check("query I\nselect file <> '' from pragma_database_list where name = 'main'\n----\n0\n")

    def test_halt__stops_at_the_first_failure(self):
        self.write(self.bad + "\n" + self.bad, "a.test")
        self.write(self.bad, "b.test")
        self.assertEqual(run(self.directory).stdout.splitlines()[-1], "0 passed, 3 failed")
        done = run("--halt", self.directory)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.splitlines()[-1], "0 passed, 1 failed")
        self.assertEqual(done.stderr, "")

    def test_quiet__has_a_line_for_a_failure(self):
        out = self.check(self.bad, "--quiet", status=1)
        self.assertEqual(out, "@1: the query gives other values\n0 passed, 1 failed\n")

    def test_jobs__report_every_failure_once(self):
        for i in range(20):
            self.write(self.good + "\n" + self.bad, f"{i:02}.test")
        for jobs in ("1", "3", "32"):
            done = run("--jobs", jobs, self.directory)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stdout.splitlines()[-1], "60 passed, 20 failed")
            self.assertEqual(sorted(re.findall(r"/(\d+)\.test:12: ", done.stdout)), [f"{i:02}" for i in range(20)])

    def test_terminal__sees_progress_and_a_pipe_does_not(self):
        path = self.write(self.good + "\n" + self.bad)
        primary, secondary = pty.openpty()
        with os.fdopen(primary, "rb", buffering=0) as terminal:
            done = subprocess.run(command(path), stdout=subprocess.PIPE, stderr=secondary, timeout=TIMEOUT, check=False)
            os.close(secondary)
            shown = b""
            with contextlib.suppress(OSError):  # EIO is the end of a terminal
                while piece := terminal.read(4096):
                    shown += piece
        self.assertTrue(shown.startswith(f"\r\x1b[K[1/1] {path}:1".encode()), shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown)
        self.assertNotIn(b"\x1b", done.stdout)
        self.assertEqual(run(path).stderr, "")

    def test_database__that_cannot_be_had_fails_each_file(self):
        self.write(self.good, "a.test")
        self.write(self.good, "b.test")
        done = run("--db", "postgresql://nobody@127.0.0.1:1/none", self.directory)
        if "not built" in done.stdout + done.stderr:
            self.skipTest("without Postgres")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.count(":0: no database could be made for this file"), 2)
        self.assertEqual(done.stdout.splitlines()[-1], "0 passed, 2 failed")


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


class Interrupt(Case):
    """Ctrl-C ends a query that would not end, drops what was made and says so."""

    def interrupt(self, *options, ready):
        path = self.write(f"statement ok\nselect 1\n\nquery I\n{ENDLESS}\n----\n1\n\nstatement ok\nselect 1\n")
        self.write("statement ok\nselect 1\n", "y.test")
        process = subprocess.Popen(command(*options, path, self.directory / "y.test"), text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        try:
            while not ready(process.pid):
                self.assertIsNone(process.poll())
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        self.assertEqual(process.returncode, 1, out + err)
        self.assertEqual(err, "sqllogictest: interrupted\n")
        self.assertRegex(out, r"\A[12] passed, 0 failed\n\Z")

    @staticmethod
    def has_worked(pid):
        """A quarter of a second of CPU is spent in the endless query only."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12]) >= os.sysconf("SC_CLK_TCK") // 4

    def interrupt_at_many_moments(self, url, left):
        """Also while databases are made: nothing has failed then, and nothing stays. Gives no moment a name, since a
        loaded machine would not keep to it."""
        path = self.write(f"statement ok\nselect 1\n\nquery I\n{ENDLESS}\n----\n1\n")
        other = self.write("statement ok\nselect 1\n", "y.test")
        for ms in range(4, 64, 4):
            process = subprocess.Popen(command("--db", url, "--jobs", "2", path, other), text=True,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(ms / 1000)
            process.send_signal(signal.SIGINT)
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()
                process.wait()
            if process.returncode == -signal.SIGINT:  # before main
                continue
            self.assertEqual((process.returncode, err), (1, "sqllogictest: interrupted\n"), out)
            self.assertRegex(out, r"\A[012] passed, 0 failed\n\Z")
            self.assertFalse(left(process.pid), f"after {ms} ms")

    def test_interrupt__at_any_moment_leaves_nothing(self):
        self.interrupt_at_many_moments(f"sqlite:{self.directory}",
                                       lambda pid: list(self.directory.glob("sqllogictest-*")))

    def test_interrupt__ends_a_blocking_query(self):
        self.interrupt("--db", f"sqlite:{self.directory}", ready=self.has_worked)
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["x.test", "y.test"])

    def test_interrupt__ends_tasks(self):
        self.interrupt("--db", f"sqlite:{self.directory}", "--jobs", "2", ready=self.has_worked)
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["x.test", "y.test"])


class OnPostgres(Interrupt):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.url = os.environ.get("PIER_TEST_POSTGRES") or cls.start_cluster()

    @classmethod
    def start_cluster(cls):
        script = str(REPOSITORY / "scripts/local-postgres")
        directory = tempfile.TemporaryDirectory(prefix="pier-slt-")
        cls.addClassCleanup(directory.cleanup)
        os.chmod(directory.name, 0o755)  # Postgres runs as another user
        cluster = directory.name + "/cluster"
        started = subprocess.run([script, "start", cluster], capture_output=True, text=True, timeout=TIMEOUT, check=False)
        if started.returncode == 3:
            raise unittest.SkipTest("no Postgres server is installed")
        if started.returncode != 0:
            raise AssertionError(started.stderr)
        cls.addClassCleanup(subprocess.run, [script, "stop", cluster], check=True, timeout=TIMEOUT)
        return started.stdout.splitlines()[0]

    def ask(self, sql, value):
        """Asks the server through the program itself, in another session."""
        path = self.write(f"query I\n{sql}\n----\n{value}\n", "ask.test")
        return run("--db", self.url, path).returncode == 0

    # Another run may use the server of PIER_TEST_POSTGRES, so only schemas of this one are looked at.
    def schemas_are_gone(self, pid):
        return self.ask(f"select count(*) from pg_namespace where nspname like 'sqllogictest%$_{pid}$_%' escape '$'", 0)

    def is_running(self, pid):
        # The quotation marks keep this query from seeing itself.
        return self.ask("select count(*) > 0 from pg_stat_activity where query like 'with recursive n(i)%' and "
                        "state = 'active'", 1) and self.remember(pid)

    def remember(self, pid):
        self.pid = pid
        return True

    def test_interrupt__ends_a_blocking_query(self):
        self.interrupt("--db", self.url, ready=self.is_running)
        self.assertTrue(self.schemas_are_gone(self.pid))

    def test_interrupt__ends_tasks(self):
        self.interrupt("--db", self.url, "--jobs", "2", ready=self.is_running)
        self.assertTrue(self.schemas_are_gone(self.pid))

    def test_interrupt__at_any_moment_leaves_nothing(self):
        self.interrupt_at_many_moments(self.url, lambda pid: not self.schemas_are_gone(pid))

    def test_schema__is_fresh_and_dropped(self):
        self.write(Program.good, "a.test")
        self.write(Program.good.replace("create table t(a)", "create table t(a integer)"), "b.test")
        (self.directory / "a.test").unlink()
        self.write((self.directory / "b.test").read_text(), "a.test")
        done = subprocess.Popen(command("--db", self.url, "--jobs", "2", self.directory), stdout=subprocess.PIPE, text=True)
        out, _ = done.communicate(timeout=TIMEOUT)
        self.assertEqual(out, "6 passed, 0 failed\n")
        self.assertTrue(self.schemas_are_gone(done.pid))

    def test_errors__have_their_state(self):
        self.check("statement error 42P01\nselect * from missing\n", "--db", self.url)
        self.fails("statement ok\nselect * from missing\n", "PIER_ESQL 42P01: relation \"missing\" does not exist",
                   options=["--db", self.url])

    def test_connection__that_is_lost_ends_the_file_whatever_is_expected(self):
        for wanted in ("statement error", "statement ok"):
            out = self.fails(f"{wanted}\nselect pg_terminate_backend(pg_backend_pid())\n\nstatement ok\nselect 1\n",
                             "; the rest of the file cannot run", options=["--db", self.url])
            self.assertIn("0 passed, 1 failed", out)


class Corpus(Case):
    def test_readme__has_an_example_that_passes(self):
        example = re.search(r"^    statement ok\n(?:(?:    .*)?\n)+", (SOURCE / "README.md").read_text(), re.M).group()
        self.check(re.sub("^    ", "", example, flags=re.M), last="4 passed, 0 failed")

    def test_generated_part__is_what_its_generator_writes(self):
        done = subprocess.run([sys.executable, SOURCE / "generate.py", "--check"], timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, 0, "run tests/sqllogictest/generate.py")

    @unittest.skipIf(sqlite3.sqlite_version_info < (3, 39), "Python's SQLite is too old for full joins")
    def test_expectations__hold_without_pier(self):
        files = sorted(map(str, (SOURCE / "corpus").glob("*.test")))
        done = subprocess.run([sys.executable, SOURCE / "verify.py", *files], capture_output=True, text=True,
                              timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertGreater(int(done.stdout.split()[0]), 1000)


if __name__ == "__main__":
    unittest.main()
