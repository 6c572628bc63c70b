"""Tests sync/generate.py: what it writes, what it refuses, and that the real tree is up to date.

tests/unit/generate is a small tree of its own. Its include/pier/async headers use every type and
marker; the generated files beside them are the expected output.
"""

import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURE = REPOSITORY / "tests/unit/generate"
STYLE = ("{BasedOnStyle: LLVM, IndentWidth: 4, ColumnLimit: 100, BreakBeforeBraces: Linux, "
         "AllowShortFunctionsOnASingleLine: None}")
SUMMARY = "/**\n * Does it.\n *\n"
FUTURE = " * @return owned: the future of an `int`\n */\n"
DOC = SUMMARY + FUTURE
FUNCTION = "PIER_API pier_future *pier_x_async(void);\n"
HANDLE = SUMMARY + " * @param x  borrowed: it\n * @return owned: the future of a `pier_b *`\n"


def load_generator():
    specification = importlib.util.spec_from_file_location(
        "generate", REPOSITORY / "sync/generate.py")
    sys.dont_write_bytecode = True
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


generate = load_generator()


def run(root, *options):
    """Exit code, standard output and standard error of the generator."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = generate.main([*options, "--root", str(root)])
    return code, out.getvalue(), err.getvalue()


class TreeTest(unittest.TestCase):
    """A test with a tree to write headers into."""

    def setUp(self):
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)

    def write(self, text, path="include/pier/async/x.h"):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def copy_fixture(self):
        shutil.copytree(FIXTURE, self.root, dirs_exist_ok=True)


class Refusals(TreeTest):
    def refuses(self, text, at, words, path="include/pier/async/x.h"):
        """The header is refused at the last line with `at`, in those words; nothing is written."""
        self.write(text, path)
        line = text.count("\n", 0, text.rindex(at)) + 1
        code, out, err = run(self.root)
        self.assertEqual((code, out), (2, ""))
        self.assertIn(f"{path}:{line}: ", err)
        self.assertIn(words, err)
        self.assertFalse((self.root / "sync").exists())

    def test_marker_before_something_else(self):
        words = "PIER_SYNC does not precede a prototype"
        for text in ("PIER_SYNC(int)\ntypedef int pier_x;\n", "PIER_SYNC(int)\n" + DOC + FUNCTION,
                     "PIER_SYNC(int)\n#if 1\n#endif\n", "PIER_SYNC(int)\nstruct x { int y; };\n",
                     "struct x { PIER_SYNC(int) int y; };\n", "PIER_SYNC(int)\n"):
            with self.subTest(text):
                self.refuses(text, "PIER_SYNC", words)

    def test_marker_behind_the_prototype_begins(self):
        self.refuses(DOC + "PIER_API PIER_SYNC(int) pier_future *pier_x_async(void);",
                     "PIER_SYNC", "does not precede")

    def test_marker_that_cannot_be_read(self):
        for marker in ("PIER_SYNC()", "PIER_SYNC(int, often)", "PIER_SYNC(int) PIER_SYNC(int)"):
            with self.subTest(marker):
                self.refuses(DOC + marker + "\n" + FUNCTION, "PIER_API", "write PIER_SYNC(result)")
        self.refuses(DOC + "PIER_SYNC_ITERATOR(pier_y)\n" + FUNCTION, "PIER_API",
                     "PIER_SYNC_ITERATOR(name")
        self.refuses(DOC + "PIER_ASYNC_ONLY()\n" + FUNCTION, "PIER_API", 'write PIER_ASYNC_ONLY')
        self.refuses(DOC + 'PIER_ASYNC_ONLY("")\n' + FUNCTION, "PIER_API", 'write PIER_ASYNC_ONLY')
        self.refuses(DOC + "PIER_SYNC\n" + FUNCTION, "PIER_SYNC", "'(' expected")
        self.refuses("PIER_SYNC;\n", "PIER_SYNC", "'(' expected")

    def test_async_function_without_a_marker(self):
        self.refuses(DOC + FUNCTION, "PIER_API", "has no marker")
        self.refuses(DOC + FUNCTION, "PIER_API", "has no marker", "include/pier/other.h")

    def test_async_function_that_is_not_public(self):
        self.refuses(DOC + FUNCTION.replace("PIER_API ", ""), "pier_x_async", "must be PIER_API")

    def test_marked_function_of_another_name(self):
        text = DOC + "PIER_SYNC(int)\nPIER_API pier_future *pier_x(void);"
        self.refuses(text, "PIER_API", "does not end in _async")
        text = text.replace("PIER_SYNC(int)", 'PIER_ASYNC_ONLY("so")')
        self.refuses(text, "PIER_API", "does not end in _async")

    def test_marked_function_without_a_future(self):
        self.refuses(DOC + "PIER_SYNC(int)\nPIER_API int pier_x_async(void);",
                     "PIER_API", "must give 'pier_future *'")

    def test_contradicting_markers(self):
        self.refuses(DOC + 'PIER_SYNC(int)\nPIER_ASYNC_ONLY("so")\n' + FUNCTION, "PIER_API",
                     "contradicts")

    def test_marker_outside_the_async_headers(self):
        self.refuses(DOC + "PIER_SYNC(int)\n" + FUNCTION, "PIER_API", "move it",
                     "include/pier/x.h")

    def test_marker_inside_a_condition(self):
        text = f"#ifndef G\n#define G\n#ifdef X\n{DOC}PIER_SYNC(int)\n{FUNCTION}#endif\n#endif\n"
        self.refuses(text, "PIER_API", "inside an #if")

    def test_missing_doc_comment(self):
        for before in ("", "/* plain */", DOC + "int y;", DOC + "#if 1\n#endif", "/** */"):
            with self.subTest(before):
                self.refuses(f"{before}\nPIER_SYNC(int)\n{FUNCTION}", "PIER_API",
                             "has no doc comment")

    def test_parameter_without_a_line(self):
        self.refuses(SUMMARY + " */\nPIER_API int pier_x(int y);", "PIER_API",
                     "parameter y has no @param")

    def test_line_without_a_parameter(self):
        self.refuses(SUMMARY + " * @param y  it\n */\nPIER_API int pier_x(void);", "@param",
                     "@param y is for no parameter")

    def test_line_that_cannot_be_read(self):
        for line in ("@param", "@returns it", "@param[in] x it", "@iterator"):
            with self.subTest(line):
                self.refuses(f"{SUMMARY} * {line}\n */\n{FUNCTION}", line,
                             f"cannot read '{line}'")
        self.refuses(f"{SUMMARY} * @return it\n * @return it\n */\n{FUNCTION}", "@return", "twice")

    def test_pointer_without_ownership(self):
        for text in ("the thing", "borrowed for a while", "borrowed", "borrowed until",
                     "ownedness"):
            for parameter in ("const char *y", "int y[]", "pier_a *const *y"):
                with self.subTest(text=text, parameter=parameter):
                    self.refuses(f"{SUMMARY} * @param y  {text}\n */\n"
                                 f"PIER_API void pier_x({parameter});", "@param",
                                 "@param y is a pointer")

    def test_returned_pointer_without_ownership(self):
        for path in ("include/pier/x.h", "include/pier/async/x.h"):
            with self.subTest(path):
                self.refuses(SUMMARY + " * @return it\n */\nPIER_API char *pier_x(void);",
                             "@return", "@return is a pointer", path)
        self.refuses(SUMMARY + " */\nPIER_API char *pier_x(void);", "PIER_API",
                     "@return is a pointer")

    def test_unknown_result(self):
        for result in ("float", "char **", "pier_x", "unsigned"):
            with self.subTest(result):
                self.refuses(f"{DOC}PIER_SYNC({result})\n{FUNCTION}", "PIER_API",
                             f"unknown result type '{result}'")

    def test_unknown_parameter(self):
        for parameter in ("float y", "size_t *y", "struct s y", "void (*y)(void)", "char *y"):
            with self.subTest(parameter):
                self.refuses(f"{SUMMARY} * @param y  shared: it\n{FUTURE}PIER_SYNC(int)\n"
                             f"PIER_API pier_future *pier_x_async({parameter});", "PIER_API",
                             "unknown parameter type")

    def test_parameter_without_a_name(self):
        self.refuses(DOC + "PIER_API int pier_x(const char *);", "PIER_API", "has no name")

    def test_name_that_generated_code_uses(self):
        self.refuses(f"{SUMMARY} * @param result  it\n{FUTURE}PIER_SYNC(int)\n"
                     "PIER_API pier_future *pier_x_async(int result);", "PIER_API", "rename it")

    def test_fast_without_an_integer(self):
        self.refuses(f"{DOC}PIER_SYNC(void, fast)\n{FUNCTION}", "PIER_API", "for int and int64_t")

    def test_checked_without_an_integer(self):
        self.refuses(f"{DOC}PIER_SYNC(void, checked)\n{FUNCTION}", "PIER_API",
                     "for int and int64_t")

    def test_return_that_is_not_a_future(self):
        self.refuses(DOC.replace("the future of an `int`", "it") + "PIER_SYNC(int)\n" + FUNCTION,
                     "PIER_API", "must read 'owned: the future of ...'")

    def test_two_functions_of_one_name(self):
        by_hand = "/**\n * Does it.\n */\nPIER_API void {}(void);\n"
        marked = DOC + "PIER_SYNC(int)\n" + FUNCTION
        for name in ("pier_x", "pier_x_finish"):
            with self.subTest(name):
                self.refuses(marked + by_hand.format(name), "PIER_API", f"{name} is declared here")
        self.write(by_hand.format("pier_y"), "include/pier/a.h")
        self.refuses(by_hand.format("pier_y"), "PIER_API", "at include/pier/a.h:4 too",
                     "include/pier/b.h")

    def test_iterator_without_text(self):
        function = "PIER_API pier_future *pier_x_async(pier_a *x);\n"
        marked = "PIER_SYNC_ITERATOR(pier_y, const void *)\nPIER_SYNC(pier_b *)\n" + function
        self.refuses(HANDLE + " */\n" + marked, "PIER_API",
                     "PIER_SYNC_ITERATOR(pier_y) has no text")
        self.refuses(HANDLE + " * @iterator pier_y\n */\n" + marked, "PIER_API", "has no text")

    def test_iterator_without_marker(self):
        self.refuses(HANDLE + " * @iterator pier_y  It.\n */\nPIER_SYNC(pier_b *)\n"
                     "PIER_API pier_future *pier_x_async(pier_a *x);\n", "@iterator",
                     "has no marker")

    def test_iterator_that_cannot_be_written(self):
        text = (HANDLE + " * @iterator pier_y  It.\n */\nPIER_SYNC_ITERATOR({})\n{}"
                "PIER_API pier_future *pier_x_async({});\n")
        sync = "PIER_SYNC(pier_b *)\n"
        for iterator, marker, parameters, words in (
                ("pier_y, const void *", "", "pier_a *x", "an iterator needs PIER_SYNC"),
                ("pier_y, const void *", "PIER_SYNC(int)\n", "pier_a *x", "fetches blocks"),
                ("pier_y, const void *", sync, "int x", "take the handle alone"),
                ("pier_y, int", sync, "pier_a *x", "unknown iterator item type 'int'"),
                ("pier_y, void *, int z", sync, "pier_a *x", "unknown iterator parameter")):
            with self.subTest(words):
                self.refuses(text.format(iterator, marker, parameters), "PIER_API", words)

    def test_text_that_cannot_be_read(self):
        self.refuses("\n/* never closed", "/*", "close what begins here")
        self.refuses('\nint x = "never closed;\n', '"never', "close what begins here")
        self.refuses("int x;\n}\n", "}", "closes nothing")
        self.refuses("int x(\n", "int", "a bracket is never closed")
        self.refuses("PIER_API extern int pier_x;\n", "PIER_API", "cannot read this as")
        self.refuses("extern PIER_API int pier_x(void);\n", "PIER_API", "cannot read this as")

    def test_file_by_hand_where_a_generated_one_belongs(self):
        self.write("int by_hand;\n", "include/pier/x.h")
        self.write(DOC + "PIER_SYNC(int)\n" + FUNCTION)
        code, _, err = run(self.root)
        self.assertEqual(code, 2)
        self.assertIn("include/pier/x.h:1: is written by hand", err)
        self.assertEqual((self.root / "include/pier/x.h").read_text(), "int by_hand;\n")


class Writing(TreeTest):
    def test_fixture_gives_the_expected_files(self):
        self.assertEqual(run(FIXTURE, "--check"), (0, "", ""))

    def test_fixture_uses_every_type(self):
        self.assertEqual(run(FIXTURE, "--check-rules"), (0, "", ""))

    def test_unused_types_are_named(self):
        self.write(DOC + "PIER_SYNC(int)\n" + FUNCTION)
        code, out, _ = run(self.root, "--check-rules")
        self.assertEqual(code, 1)
        self.assertIn("result type 'void' is used by no header", out)
        self.assertNotIn("result type 'int' is", out)

    def test_writes_what_is_missing_and_removes_what_is_stray(self):
        self.copy_fixture()
        (self.root / "sync/port.c").unlink()
        stray = [self.write(generate.NOTICE.format("include/pier/async/gone.h") + "\n", path)
                 for path in ("include/pier/gone.h", "sync/gone.c")]
        kept = self.write("/* by hand */\n", "sync/kept.c")
        self.assertEqual(run(self.root), (0, "", ""))
        self.assertEqual((self.root / "sync/port.c").read_text(),
                         (FIXTURE / "sync/port.c").read_text())
        self.assertEqual([path.exists() for path in (*stray, kept)], [False, False, True])

    def test_leaves_unchanged_files_alone(self):
        self.copy_fixture()
        os.utime(self.root / "sync/port.c", (1, 1))
        run(self.root)
        self.assertEqual((self.root / "sync/port.c").stat().st_mtime, 1)

    def test_check_shows_differences_and_writes_nothing(self):
        self.copy_fixture()
        edited = (FIXTURE / "sync/port.c").read_text().replace("op_submit", "op_drop", 1)
        (self.root / "sync/port.c").write_text(edited)
        code, out, _ = run(self.root, "--check")
        self.assertEqual(code, 1)
        self.assertIn("-    return pier__op_drop(", out)
        self.assertIn("+    return pier__op_submit(", out)
        self.assertEqual((self.root / "sync/port.c").read_text(), edited)

    def test_check_refuses_a_stray_file(self):
        self.copy_fixture()
        self.write(generate.NOTICE.format("include/pier/async/gone.h") + "\n", "sync/gone.c")
        code, out, _ = run(self.root, "--check")
        self.assertEqual((code, out), (1, "sync/gone.c: a stray generated file; "
                                          "run sync/generate.py\n"))

    def test_face_takes_in_the_faces_of_what_its_header_includes(self):
        function = DOC + "PIER_SYNC(int)\n" + FUNCTION
        self.write("#include <pier/async/y.h>\n#include <pier/base.h>\n" + function)
        self.write("#include <pier/base.h>\n" + function.replace("_x_", "_y_"),
                   "include/pier/async/y.h")
        self.write("#include <pier/async/x.h>\n", "include/pier/async/all.h")
        self.assertEqual(run(self.root), (0, "", ""))
        for stem, expected in (("x", ["async/x", "y"]), ("y", ["async/y"]),
                               ("all", ["async/all", "x"])):
            with self.subTest(stem):
                face = (self.root / f"include/pier/{stem}.h").read_text()
                self.assertEqual([line for line in face.split("\n") if "#include" in line],
                                 [f"#include <pier/{each}.h>" for each in expected])

    def test_nothing_comes_of_nothing(self):
        self.assertEqual(run(self.root, "--check", "--check-rules"), (0, "", ""))

    def compile(self, *command):
        done = subprocess.run([*command, "-Wall", "-Wextra", "-pedantic", "-Werror", "-Iinclude",
                               "-I.", "-fsyntax-only"], cwd=FIXTURE, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_generated_bodies_compile(self):
        self.compile("cc", "-std=c11", "-Wmissing-prototypes", "sync/port.c")

    def test_generated_headers_compile_alone_in_both_languages(self):
        for header in ("include/pier/port.h", "include/pier/plain.h", "sync/ops.h"):
            for language in ("c -std=c11", "c++ -std=c++17"):
                with self.subTest(header=header, language=language):
                    self.compile("cc", "-x", *language.split(), "-include", header, "/dev/null")

    @unittest.skipUnless(shutil.which("clang-format"), "clang-format is not installed")
    def test_generated_files_are_formatted(self):
        own = REPOSITORY / ".clang-format"
        style = f"file:{own}" if own.exists() else STYLE
        for path in ("include/pier/port.h", "include/pier/plain.h", "sync/port.c", "sync/ops.h"):
            with self.subTest(path):
                done = subprocess.run(["clang-format", f"--style={style}", FIXTURE / path],
                                      capture_output=True, text=True, check=True)
                self.assertEqual(done.stdout, (FIXTURE / path).read_text())


class RealTree(unittest.TestCase):
    maxDiff = None

    def test_is_up_to_date(self):
        self.assertEqual(run(REPOSITORY, "--check"), (0, "", ""))

    def test_uses_every_type(self):
        self.assertEqual(run(REPOSITORY, "--check-rules"), (0, "", ""))

    def test_one_header_has_all_of_sqlite(self):
        """A program that includes pier/sqlite.h alone blocks in the functions of each part of it."""
        names = ("db_open", "sqlite_checkpoint", "sqlite_backup", "sqlite_blob_open", "sqlite_function",
                 "sqlite_set_authorizer", "sqlite_changes_next", "sqlite_run")
        source = "#include <pier/sqlite.h>\n" + "".join(
            f"void *use_{name}(void);\nvoid *use_{name}(void)\n{{\n    return (void *)pier_{name};\n}}\n"
            for name in names)
        done = subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c",
                               "-I", REPOSITORY / "include", "-"],
                              input=source, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
