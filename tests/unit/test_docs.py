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


if __name__ == "__main__":
    unittest.main()
