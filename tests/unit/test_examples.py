"""Runs the programs of examples/ as their readers would: on SQLite, on Postgres, against an HTTP server.

They are taken from $PIER_BUILD_DIR/examples, or from the build directory given as the first argument. Where
no Postgres can be had its cases are skipped; PIER_TEST_POSTGRES names a server to use instead of a private one.
"""

import contextlib
import http.server
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT = 40  # seconds for one program: ctest gives all of them a minute, sanitizers included
CHARACTERS = 3000
DATABASE_PROGRAMS = ("first_program", "first_async", "crud", "transaction", "stream_rows", "event_loop",
                     "threaded_server")
PROGRAMS = DATABASE_PROGRAMS + ("fifty_requests", "load", "integration_test", "pipeline", "count_words")


def examples_directory():
    if len(sys.argv) > 1 and Path(sys.argv[1]).is_dir():
        return Path(sys.argv.pop(1)).resolve() / "examples"
    if "PIER_BUILD_DIR" in os.environ:
        return Path(os.environ["PIER_BUILD_DIR"]) / "examples"
    sys.exit("test_examples.py: set PIER_BUILD_DIR, or give the build directory as the first argument")


EXAMPLES = examples_directory()


def wrapper():
    """Some kernels run ThreadSanitizer's programs only under a wrapper, which CMake knows."""
    return [word for word in os.environ.get("PIER_TEST_WRAPPER", "").split(";") if word]


def command(name, *arguments):
    return [*wrapper(), str(EXAMPLES / name), *map(str, arguments)]


def run(name, *arguments, **options):
    return subprocess.run(command(name, *arguments), capture_output=True, text=True, timeout=TIMEOUT,
                          check=False, **options)


def documents():
    """Small files in the formats that load knows, by path."""
    characters = "".join(f"{code:04X};LETTER {code};{'Lu' if code % 3 else 'Nd'};0;L;;;;;N;;;;;\n"
                         for code in range(CHARACTERS))
    blocks = "# Blocks\n\n0000..03FF; First Block\n0400..FFFF; Second Block\n"
    scripts = "0041..005A    ; Latin # L&  [26] A..Z\n00AA          ; Latin # Lo a single one\n"
    countries = [{"alpha_2": "AX", "alpha_3": "ALA", "name": "Åland Islands"},
                 {"alpha_2": "ZZ", "alpha_3": "ZZZ", "name": "The \\ \"quoted\" one", "numeric": "1"}]
    return {"/UnicodeData.txt": characters, "/Blocks.txt": blocks, "/Scripts.txt": scripts,
            "/iso_3166-1.json": json.dumps({"3166-1": countries}, ensure_ascii=False, indent=2),
            "/empty.txt": "# nothing\n"}


RECORDS = CHARACTERS + 2 + 2 + 2


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    documents = documents()

    def do_GET(self):
        if self.path == "/hang":
            self.server.hanging.set()
            self.server.closing.wait(TIMEOUT)
            self.close_connection = True
        elif self.path in self.documents:
            self.answer(200, self.documents[self.path])
        elif self.path.startswith("/item/"):
            self.answer(200, "this is " + self.path)
        elif self.path.startswith("/flawed/item/") and not self.path.endswith("/7"):
            self.answer(200, "this is " + self.path)
        else:
            self.answer(404, "no such path")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # a client that was interrupted
            self.close_connection = True


@contextlib.contextmanager
def http_server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.hanging = threading.Event()
    server.closing = threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.directory = Path(cls.stack.enter_context(tempfile.TemporaryDirectory(prefix="pier-examples-")))
        cls.directory.chmod(0o755)  # Postgres runs as another user
        cls.addClassCleanup(cls.stack.close)

    def check(self, name, *arguments, status=0, **options):
        """Runs a program, checks its exit code, and gives its output as lines."""
        done = run(name, *arguments, **options)
        self.assertEqual(done.returncode, status, f"{name}: {done.stdout}{done.stderr}")
        if status == 0 and name != "load":
            self.assertEqual(done.stderr, "")
        return done.stdout.splitlines() if status == 0 else done.stderr.splitlines()


class OnDatabase:
    """What holds on every database; `url` is of an empty one."""

    url = None

    def test_first_program__prints_the_answer(self):
        self.assertEqual(self.check("first_program", self.url), ["hello, sea"])

    def test_first_async__prints_both_answers(self):
        self.assertEqual(self.check("first_async", self.url), ["hello, sea", "hello, shore"])

    def test_crud__creates_reads_updates_and_deletes(self):
        expected = ["1 ada of unknown age", "2 bob aged 40", "2 updated, 1 deleted", "1 ada aged 37"]
        self.assertEqual(self.check("crud", self.url), expected)
        self.assertEqual(self.check("crud", self.url), expected, "it can be run again")

    def test_transaction__refuses_the_third_transfer(self):
        self.assertEqual(self.check("transaction", self.url), [
            "transferred 500: now 700 and 500",
            "transferred 500: now 200 and 1000",
            "not transferred: account 1 holds 200 cents only"])

    def test_stream_rows__writes_every_row_into_the_file(self):
        file = self.directory / f"rows-{type(self).__name__}.tsv"
        self.assertEqual(self.check("stream_rows", self.url, file, 3000), [])
        lines = file.read_text().splitlines()
        self.assertEqual(len(lines), 3000)
        self.assertEqual(lines[:1] + lines[9:10] + lines[-1:],
                         ["1\tname 1\t0.125", "10\t\\N\t1.25", "3000\t\\N\t375"])

    def test_stream_rows__reports_a_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        errors = self.check("stream_rows", self.url, "/dev/full", status=1)
        self.assertIn("No space left on device", errors[0])

    def test_event_loop__prints_the_rows_and_ends(self):
        self.assertEqual(self.check("event_loop", self.url), ["Aden", "Bergen", "Callao"])

    def test_threaded_server__serves_so_many_requests_and_ends(self):
        requests = 60
        with subprocess.Popen(command("threaded_server", self.url, 0, requests), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
            self.addCleanup(server.kill)
            base = server.stdout.readline().split()[-1]

            def get(i):
                try:
                    with urllib.request.urlopen(f"{base}/users/{i % 3 + 1}", timeout=TIMEOUT) as response:
                        return response.status, response.read().decode()
                except urllib.error.HTTPError as error:
                    with error:
                        return error.code, None

            with ThreadPoolExecutor(12) as threads:
                answers = list(threads.map(get, range(requests)))
            output, errors = server.communicate(timeout=TIMEOUT)
        self.assertEqual((server.returncode, output, errors), (0, "done\n", ""))
        self.assertEqual(answers, [[(200, "ada"), (200, "bob"), (404, None)][i % 3] for i in range(requests)])

    def test_load__stores_and_reads_back_every_record(self):
        with http_server() as server:
            urls = [server.url + path for path in Handler.documents if path != "/empty.txt"]
            lines = self.check("load", "--db", self.url, "--threads", 3, *urls)
        self.assertRegex(lines[-1], rf"^{RECORDS} records stored and read back in [0-9.]+ s$")
        text = "\n".join(lines)
        self.assertRegex(text, r"\n  Lu +2000  LETTER 1\n  Nd +1000  LETTER 0\n")
        self.assertRegex(text, r"\n  Second Block +1976  LETTER 1024\n  First Block +1024  LETTER 0\n")
        self.assertRegex(text, r"\n  T +1  The \\ \"quoted\" one\n")

    def test_load__ends_at_ctrl_c(self):
        with http_server() as server:
            urls = [server.url + "/Blocks.txt", server.url + "/hang"]
            with subprocess.Popen(command("load", "--db", self.url, *urls), text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE) as load:
                self.addCleanup(load.kill)
                self.assertTrue(server.hanging.wait(TIMEOUT))
                load.send_signal(signal.SIGINT)
                output, errors = load.communicate(timeout=TIMEOUT)
        self.assertEqual((load.returncode, output), (130, ""), errors)

    def test_load__fails_without_records_or_without_a_document(self):
        with http_server() as server:
            errors = self.check("load", "--db", self.url, "--quiet", server.url + "/empty.txt", status=1)
            self.assertIn("holds no records", errors[-1])
            errors = self.check("load", "--db", self.url, "--quiet", server.url + "/none.txt", status=1)
            self.assertIn("404", errors[-1])


class OnSqlite(OnDatabase, Case):
    def setUp(self):
        directory = tempfile.mkdtemp(dir=self.directory)
        self.url = f"sqlite:{directory}/example.db"


class OnSqliteMemory(Case):
    def test_database_programs__need_no_argument(self):
        for name in DATABASE_PROGRAMS:
            if name != "threaded_server":
                with self.subTest(name):
                    self.assertNotEqual(self.check(name), [])

    def test_load__makes_a_file_of_its_own(self):
        with http_server() as server:
            for _ in range(2):
                lines = self.check("load", "--quiet", server.url + "/UnicodeData.txt", cwd=self.directory)
                self.assertIn(f"{CHARACTERS} records", lines[-1])
        self.assertTrue((self.directory / "pier-demo.db").exists())


class OnPostgres(OnDatabase, Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.url = cls.take_database() if os.environ.get("PIER_TEST_POSTGRES") else cls.start_cluster()

    @classmethod
    def take_database(cls):
        """On the server of PIER_TEST_POSTGRES, which other tests use too; it is removed when the program's input ends."""
        program = subprocess.Popen([*wrapper(), str(EXAMPLES.parent / "tests/support/database")], text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        cls.stack.callback(program.communicate, timeout=TIMEOUT)
        url = program.stdout.readline().strip()
        if not url:
            raise AssertionError("no database can be made on the server of PIER_TEST_POSTGRES")
        return url

    @classmethod
    def start_cluster(cls):
        script = str(REPOSITORY / "scripts/local-postgres")
        cluster = str(cls.directory / "cluster")
        started = subprocess.run([script, "start", cluster], capture_output=True, text=True, timeout=TIMEOUT,
                                 check=False)
        if started.returncode == 3:
            raise unittest.SkipTest("no Postgres server is installed")
        if started.returncode != 0:
            raise AssertionError(started.stderr)
        cls.stack.callback(subprocess.run, [script, "stop", cluster], check=True, timeout=TIMEOUT)
        return started.stdout.splitlines()[0]


class WithoutDatabase(Case):
    def test_pipeline__stores_all_lines_or_none(self):
        file = self.directory / "pipeline.db"
        with http_server() as server:
            url = server.url + "/UnicodeData.txt"
            self.assertEqual(self.check("pipeline", url, f"sqlite:{file}"), [f"{CHARACTERS} lines stored"])
            with contextlib.closing(sqlite3.connect(file)) as database:
                self.assertEqual(database.execute("select count(*), max(body) from events").fetchone(),
                                 (CHARACTERS, f"{CHARACTERS - 1:04X};LETTER {CHARACTERS - 1};Lu;0;L;;;;;N;;;;;"))
            errors = self.check("pipeline", server.url + "/none.txt", f"sqlite:{file}", status=1)
            self.assertIn("404", errors[0])
            errors = self.check("pipeline", url, "sqlite:/no/such/directory/file.db", status=1)
            self.assertIn("/no/such/directory/file.db", errors[0])

    def test_count_words__counts_those_of_each_file(self):
        files = [self.directory / name for name in ("three.txt", "none.txt")]
        for file, text in zip(files, ("one two\n three", "")):
            file.write_text(text)
        self.assertEqual(self.check("count_words", *files), [f"3 {files[0]}", f"0 {files[1]}"])
        errors = self.check("count_words", files[0], "/no/such/file", status=1)
        self.assertIn("/no/such/file", errors[0])

    def test_fifty_requests__prints_fifty_answers(self):
        with http_server() as server:
            lines = self.check("fifty_requests", server.url)
        self.assertEqual(sorted(lines[:-1]), sorted(f"item/{i}: this is /item/{i}" for i in range(50)))
        self.assertEqual(lines[-1], "50 requests, 0 failed")

    def test_fifty_requests__collects_the_others_when_one_fails(self):
        with http_server() as server:
            done = run("fifty_requests", server.url + "/flawed/")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.count(": this is /flawed/item/"), 49)
        self.assertIn("50 requests, 1 failed", done.stdout)

    def test_integration_test__tests_on_a_database_of_its_own(self):
        for kind in ["sqlite"], ["postgresql"]:
            with self.subTest(kind):
                done = run("integration_test", *kind)
                if "no Postgres server is installed" in done.stderr:
                    self.skipTest("no Postgres server is installed")
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertIn("2 test(s) run", done.stdout + done.stderr)

    def test_programs__say_how_they_are_used(self):
        for name in PROGRAMS:
            if name not in ("first_program", "first_async"):
                with self.subTest(name):
                    errors = self.check(name, "--help", status=2)
                    self.assertRegex(errors[0], rf"^usage: \S*{name} ")

    def test_database_programs__report_a_database_that_cannot_be_opened(self):
        for name in DATABASE_PROGRAMS:
            with self.subTest(name):
                done = run(name, "sqlite:/no/such/directory/file.db")
                self.assertEqual(done.returncode, 1)
                self.assertIn("/no/such/directory/file.db", done.stdout + done.stderr)

    def test_programs__are_all_of_examples(self):
        self.assertEqual({path.stem for path in (REPOSITORY / "examples").glob("*.c")}, set(PROGRAMS))
        self.assertEqual([name for name in PROGRAMS if not shutil.which(EXAMPLES / name)], [])


if __name__ == "__main__":
    unittest.main()
