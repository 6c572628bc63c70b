"""The documents: their code is that of compiled examples, and what they link to exists."""
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Documents(unittest.TestCase):
    def test_code_is_that_of_the_examples(self):
        done = subprocess.run([sys.executable, ROOT / "scripts/docs", "--check"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_links_lead_to_files(self):
        for document in DOCUMENTS:
            for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
                self.assertTrue((document.parent / target).exists(), f"{document.name}: {target}")

    def test_files_named_in_the_architecture_exist(self):
        text = (ROOT / "docs/architecture.md").read_text()
        names = set(re.findall(r"`((?:sdk|drivers|sync|include|scripts|cmake)/[\w./-]+\.\w+)`", text))
        self.assertGreater(len(names), 20)
        for name in sorted(names):
            self.assertTrue((ROOT / name).exists(), name)

    def test_tests_named_in_the_guide_to_sqlite_exist(self):
        sources = "".join(source.read_text()
                          for source in (ROOT / "tests/integration").glob("test_sqlite*.c"))
        run = set(re.findall(r"\bTEST\((test_\w+)\)", sources))
        text = (ROOT / "docs/sqlite.md").read_text()
        rows = [line for line in text.splitlines() if re.match(r"\| .* \| .* \| ", line)]
        for row in rows:
            self.assertRegex(row, r"`test_\w+`|shown by \|$", "a row without a test")
        names = set(re.findall(r"`(test_\w+)`", text))
        self.assertGreater(len(names), 50)
        self.assertEqual(sorted(names - run), [])

    def test_functions_named_in_the_guide_to_sqlite_exist(self):
        headers = "".join(header.read_text() for header in (ROOT / "include").rglob("*.h"))
        names = set(re.findall(r"\bpier_\w+", (ROOT / "docs/sqlite.md").read_text()))
        self.assertGreater(len(names), 30)
        for name in sorted(names):
            self.assertRegex(headers, rf"\b{name}\b")


if __name__ == "__main__":
    unittest.main()
