"""Runs the programs of examples/patterns and checks all that they print; checks docs/patterns.md against them.

They are taken from $PIER_BUILD_DIR/examples/patterns, or from the build directory given as the first argument.
"""

import ast
import http.server
import os
import re
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = REPOSITORY / "examples/patterns"
PAGE = REPOSITORY / "docs/patterns.md"
TIMEOUT = 40  # seconds for one program: ctest gives all of them a minute, sanitizers included
PROGRAMS = ("blocking_work", "files", "one_pool", "session", "sharing", "tasks", "thread_runner")


def programs_directory():
    if len(sys.argv) > 1 and Path(sys.argv[1]).is_dir():
        return Path(sys.argv.pop(1)).resolve() / "examples/patterns"
    if "PIER_BUILD_DIR" in os.environ:
        return Path(os.environ["PIER_BUILD_DIR"]) / "examples/patterns"
    sys.exit("test_patterns.py: set PIER_BUILD_DIR, or give the build directory as the first argument")


DIRECTORY = programs_directory()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_GET(self):
        body = f"this is {self.path}".encode()
        self.send_response(200 if self.path.startswith("/item/") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Programs(unittest.TestCase):
    def run_program(self, name, *arguments):
        # Some kernels run ThreadSanitizer's programs only under a wrapper, which CMake knows.
        wrapper = [word for word in os.environ.get("PIER_TEST_WRAPPER", "").split(";") if word]
        return subprocess.run([*wrapper, DIRECTORY / name, *arguments], capture_output=True, text=True,
                              timeout=TIMEOUT, check=False)

    def check(self, name, *arguments):
        """Runs a program that succeeds and gives its output as lines."""
        done = self.run_program(name, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"{name}: {done.stdout}{done.stderr}")
        return done.stdout.splitlines()

    def serve(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.connections = 0
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        return server, f"http://127.0.0.1:{server.server_port}"

    def write(self, name, text):
        directory = tempfile.TemporaryDirectory(prefix="pier-patterns-")
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / name
        path.write_text(text)
        return path

    def postgres(self):
        """The URL of a server, private unless PIER_TEST_POSTGRES names one."""
        if os.environ.get("PIER_TEST_POSTGRES"):
            return os.environ["PIER_TEST_POSTGRES"]
        directory = tempfile.TemporaryDirectory(prefix="pier-patterns-")
        self.addCleanup(directory.cleanup)
        os.chmod(directory.name, 0o755)  # Postgres runs as another user
        script, cluster = str(REPOSITORY / "scripts/local-postgres"), f"{directory.name}/cluster"
        started = subprocess.run([script, "start", cluster], capture_output=True, text=True, timeout=TIMEOUT,
                                 check=False)
        if started.returncode == 3:
            self.skipTest("no Postgres server is installed")
        self.assertEqual(started.returncode, 0, started.stderr)
        self.addCleanup(subprocess.run, [script, "stop", cluster], check=True, timeout=TIMEOUT)
        return started.stdout.splitlines()[0]

    def test_blocking_work__is_done_beside_the_loop(self):
        lines = self.check("blocking_work")
        self.assertEqual([line for line in lines if not line.startswith("log: ")], [
            "default pool: 500500", "own pool: 55", "own pool: 5050", "own pool: 50005000",
            "lane: one", "lane: two", "decorated: 2432902008176640000"])
        # On a busy machine others may be slow too.
        slow = [line for line in lines if "forgetful" in line]
        self.assertEqual(len(slow), 1, lines)
        self.assertRegex(slow[0], r"^log: pier: a step of pier_task forgetful kept the loop for \d+ ms$")

    def test_tasks__run_from_everywhere(self):
        self.assertEqual(self.check("tasks"), [
            "hello, world",
            "the child has not begun", "hello, child",
            "hello, task in a task",
            "hello, future", "to wait in a callback: PIER_EDEADLOCK", "hello, callback",
            "hello, thread",
            "after waiting: PIER_ECANCELLED", "in a scope: PIER_ETIMEDOUT",
            "gathered: 4 9 16"])

    def test_files__finds_the_longest_line_of_each(self):
        one, none = self.write("one.txt", "abc\nlonger\n\nde"), self.write("none.txt", "")
        self.assertEqual(sorted(self.check("files", one, none)), sorted([f"{one}: 6", f"{none}: 0"]))

    def test_files__reports_one_that_is_not_there(self):
        done = self.run_program("files", self.write("one.txt", "abc\n"), "/no/such/file")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/no/such/file", done.stderr)

    def test_sharing__loses_no_count_and_no_item(self):
        self.assertEqual(self.check("sharing"), ["counted: 3000", "through the queue: 5050"])

    def test_one_pool__serves_all_threads(self):
        expected = ["something else", "the answer: 42", "8 threads, 40 rows"]
        self.assertEqual(self.check("one_pool"), expected)
        path = self.write("pool.db", "")
        self.assertEqual(self.check("one_pool", f"sqlite:{path}"), expected)

    def test_one_pool__shares_four_connections_of_postgres(self):
        self.assertEqual(self.check("one_pool", self.postgres()),
                         ["something else", "the answer: 42", "8 threads, 40 rows"])

    def test_session__uses_one_connection_for_all_requests(self):
        server, url = self.serve()
        self.assertEqual(self.check("session", url), [f"this is /item/{i}" for i in (1, 2, 3)])
        self.assertEqual(server.connections, 1)

    def test_thread_runner__closes_what_was_entered(self):
        log = self.write("log.txt", "")
        self.assertEqual(self.check("thread_runner", log), [
            "run: a row for a task",
            "wrap_context: 1 in the book", "wrap_context: left",
            "wrap_iter: 3", "wrap_iter: 2", "wrap_iter: 1"])
        self.assertEqual(log.read_text(), "enter_context: opened\nenter_context: closed with the runner\n")

    def test_thread_runner__reports_a_log_that_cannot_be_opened(self):
        done = self.run_program("thread_runner", "/no/such/directory/log.txt")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/no/such/directory/log.txt", done.stderr)

    def test_programs__say_how_they_are_used(self):
        for name in ("files", "session", "thread_runner"):
            with self.subTest(name):
                done = self.run_program(name)
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, rf"^usage: \S*{name} ")

    def test_programs__are_all_of_examples_patterns(self):
        self.assertEqual({path.stem for path in SOURCES.glob("*.c")}, set(PROGRAMS))


class Page(unittest.TestCase):
    def setUp(self):
        self.text = PAGE.read_text()

    def test_page__shows_every_part_of_every_program(self):
        shown = set(re.findall(r"<!-- include: (examples/patterns/\w+\.c#\w+) -->", self.text))
        parts = {f"examples/patterns/{source.name}#{part}" for source in SOURCES.glob("*.c")
                 for part in re.findall(r"/\* \[(\w+)\] \*/", source.read_text())}
        self.assertEqual(shown, parts)

    def test_page__links_to_headings_that_exist(self):
        headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", self.text, flags=re.S | re.M), re.M)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        links = set(re.findall(r"\]\(#([^)]+)\)", self.text))
        self.assertGreater(len(links), 20)
        self.assertEqual(links - anchors, set())

    def test_page__has_valid_python(self):
        blocks = re.findall(r"^```python\n(.*?)^```$", self.text, re.S | re.M)
        self.assertGreater(len(blocks), 15)
        for block in blocks:
            compile(block, block, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    def test_page__names_functions_that_exist(self):
        headers = "".join(header.read_text() for header in (REPOSITORY / "include").rglob("*.h"))
        names = set(re.findall(r"\b(?:pier|PIER)_\w+", self.text))
        self.assertGreater(len(names), 60)
        self.assertEqual([name for name in sorted(names) if not re.search(rf"\b{name}\b", headers)], [])


if __name__ == "__main__":
    unittest.main()
