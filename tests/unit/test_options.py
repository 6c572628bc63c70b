"""Tests the public options structs: `struct_size` first, and no padding behind the last field.

A library tells by struct_size which fields a program knows. With padding at the end a new field could
take the place of what older programs leave uninitialised, and would seem to be known to them.
"""

import re
import subprocess
import unittest
from pathlib import Path

INCLUDE = Path(__file__).resolve().parents[2] / "include"
STRUCT = re.compile(r"^typedef struct (pier_\w+) \{\n(.*?)^\} (?:PIER_\w+ )?\1;", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def fields(body):
    """The names of the fields, in order."""
    names = []
    for declaration in COMMENT.sub("", body).split(";"):
        pointer = re.search(r"\(\*(\w+)\)", declaration)
        name = re.search(r"(\w+)(?:\[\w+\])?\s*$", declaration)
        if pointer or name:
            names.append((pointer or name)[1])
    return names


def options():
    """Each struct with a struct_size: its header, name and fields."""
    for path in sorted(INCLUDE.rglob("*.h")):
        for name, body in STRUCT.findall(path.read_text()):
            if re.search(r"\bstruct_size;", body):
                yield path.relative_to(INCLUDE).as_posix(), name, fields(body)


class Options(unittest.TestCase):
    def test_are_found(self):
        self.assertGreater(len([*options()]), 8)

    def test_begin_with_their_size(self):
        for header, name, names in options():
            with self.subTest(name, header=header):
                self.assertEqual(names[0], "struct_size")

    def test_end_without_padding(self):
        for header, name, names in options():
            with self.subTest(name, header=header):
                last = names[-1]
                source = (f"#include <{header}>\n#include <stddef.h>\n"
                          f"_Static_assert(offsetof({name}, {last}) + sizeof((({name} *)0)->{last}) == "
                          f"sizeof({name}), \"{name} ends in padding: add a reserved field\");\n")
                done = subprocess.run(["cc", "-std=c11", "-fsyntax-only", "-x", "c", "-I", INCLUDE, "-"],
                                      input=source, capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
