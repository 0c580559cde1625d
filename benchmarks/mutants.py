"""Mutation testing: break one place of a file at a time and see whether a quick test notices.

    python benchmarks/mutants.py [ROOM or FILE ...] [--sample 25] [--seed 1] [--out mutants.jsonl]
    python benchmarks/mutants.py --table mutants.jsonl     # the table of what was written
    python benchmarks/mutants.py ROOM --list               # every mutant, without running one

A mutant is the file's source with one expression or statement replaced (see `mutants_of`). It is never written to
disk: a process that has imported TensorFlow and nothing of the package forks one child a mutant, in which the import of
that file gives the mutant. A child runs the quick tests that pass the mutated line (of a function's head its body), the
quickest first, up to the first failure. "killed" is a failure, an error of collection, or a child that takes far longer
than the same tests without a mutant; "explained" is a survivor that
`mutants_explained.jsonl` says can't be told from the original, by file, source line and mutant; the score is the share
of the others that are killed. Files are sampled with the seed, each for itself.

Forking needs a process in which TensorFlow has computed nothing yet: its thread pools don't come along. mutmut 3 runs
the tests once before it forks, and its children hang; cosmic-ray starts Python for each mutant, 8 s where this takes 1.
"""

import argparse
import ast
import collections
import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import linecache
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and loading them takes as long as many a test

ROOT = Path(__file__).resolve().parents[1]
EXPLAINED = Path(__file__).with_name("mutants_explained.jsonl")
PACKAGE = "keras_deeplab"
# Files (patterns under the package) and the tests, of the fast lane, that are theirs.
ROOMS = {
    "rewrite": (["rewrite.py"], ["test_rewrite.py", "test_models.py", "test_models_v1_v2.py"]),
    "losses": (
        ["training/losses/*.py", "training/objective.py"],
        ["test_training_loss*.py", "test_training_objective.py", "test_training_coarse.py"],
    ),
    "metrics": (["metrics/*.py"], ["test_metrics*.py", "test_training_coarse.py"]),
    "weights": (
        [
            *(f"weights/{name}.py" for name in ("plan", "places", "names", "assign", "filling", "foreign", "own")),
            # weights/tflite.py and its reader are tested on converted files, which takes too long for the fast lane.
            *(f"weights/{name}.py" for name in ("torchvision", "tf1")),
            *(f"weights/readers/{name}.py" for name in ("torch", "bundle")),
        ],
        ["test_weights*.py"],
    ),
    "quantize": (["quantize/*.py"], ["test_quantize*.py"]),
    "crf": (["inference/crf/*.py"], ["test_inference_crf.py"]),
    "transforms": (["data/transforms.py"], ["test_data_transforms.py", "test_data_pipeline.py"]),
}

# Faults that no quick test noticed once: (file, what stands there, what stands there instead, the tests). `--faults`.
FAULTS = (
    ("quantize/rounding.py", "bias += np.einsum", "bias -= np.einsum", "test_quantize_parts.py"),
    ("quantize/equalise.py", "_MARGIN = 1.2", "_MARGIN = 1.0", "test_quantize_parts.py"),
    ("quantize/ranges.py", "_PERCENTILE = 99.99", "_PERCENTILE = 99.9", "test_quantize_parts.py"),
    ("quantize/argmax.py", "_RIDGE = 1e-4", "_RIDGE = 0.0", "test_quantize_parts.py"),
    ("quantize/argmax.py", "_RIDGE = 1e-4", "_RIDGE = 1e-1", "test_quantize_parts.py"),
    ("weights/plan.py", "shape[2], shape[0], shape[1])", "shape[2], shape[1], shape[0])", "test_weights_plan.py"),
    ("weights/names.py", "axes=((2, 3, 1, 0), ", "axes=((3, 2, 1, 0), ", "test_weights_rules.py"),
    ("weights/names.py", "(2, 3, 0, 1)),", "(3, 2, 0, 1)),", "test_weights_rules.py"),
    (
        "specs/__init__.py",
        "self.output_stride / output_stride",
        "output_stride / self.output_stride",
        "test_weights_plan.py",
    ),
    ("training/losses/hard_pixels.py", "ops.shape(scores)[0]", "scores.shape[0] or 1", "test_training_losses*.py"),
    ("training/losses/hard_pixels.py", "size - kept)", "kept)", "test_training_losses*.py"),
    ("training/losses/hard_pixels.py", "scores > last, scores", "scores >= last, scores", "test_training_losses*.py"),
)


# Mutants ----------------------------------------------------------------------------------------------------------

_COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
# Functions of which the order of the first two arguments says nothing.
_SYMMETRIC = {
    *("max", "min", "maximum", "minimum", "logical_and", "logical_or", "equal", "not_equal", "broadcast", "hypot"),
    "isinstance",
}
# Arguments that say how something is computed or checked, not what comes out.
_IDLE_KEYWORDS = {"strict", "autograph", "reduce_retracing", "frozen", "slots"}


class Mutant:
    """A replacement in a file: from (line, column) to (line, column), lines from 1 and columns in UTF-8 bytes."""

    def __init__(self, node, text, what):
        self.start, self.end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
        self.text, self.what = text, what

    @property
    def place(self):
        return f"{self.start[0]}:{self.start[1]}"

    def source(self, lines):
        first, last = self.start[0] - 1, self.end[0] - 1
        changed = lines[first][: self.start[1]] + self.text.encode() + lines[last][self.end[1] :]
        return b"".join([*lines[:first], changed, *lines[last + 1 :]])


def mutants_of(source):
    """Every mutant of a file's source, in the order of the file.

    Swapped comparisons (both the neighbour and the negation), + and -, * and /, // and % and ** to *, `and` and `or`,
    `not` and signs dropped, conditions negated, numbers +-1, True and False, a value instead of a call of one argument,
    the first two arguments swapped, statements that are calls or `raise` left out, None returned, `break` and
    `continue`. Annotations, decorators, texts and what only words an error are left alone.
    """
    found = []

    def expression(node, new, what):
        found.append(Mutant(node, f"({ast.unparse(new)})", what))

    def visit(node):
        before = f"{ast.unparse(node)}" if isinstance(node, ast.expr) else ""
        match node:
            case ast.Raise():
                found.append(Mutant(node, "pass", "raise left out"))
                return
            case ast.JoinedStr() | ast.Assert():
                return
            case ast.Compare(left, ops, comparators) if len(ops) == 1:
                for other in _COMPARISONS[type(ops[0])]:
                    new = ast.Compare(left, [other()], comparators)
                    expression(node, new, f"{before} -> {ast.unparse(new)}")
            case ast.Compare(left, ops, comparators):
                for place, op in enumerate(ops):
                    for other in _COMPARISONS[type(op)]:
                        new = ast.Compare(left, [*ops[:place], other(), *ops[place + 1 :]], comparators)
                        expression(node, new, f"{before} -> {ast.unparse(new)}")
            case ast.BinOp(left, op, right) if type(op) in _OPERATORS and not _is_text(left) and not _is_text(right):
                new = ast.BinOp(left, _OPERATORS[type(op)](), right)
                expression(node, new, f"{before} -> {ast.unparse(new)}")
            case ast.AugAssign(target, op, value) if type(op) in _OPERATORS and not _is_text(value):
                new = ast.unparse(ast.AugAssign(target, _OPERATORS[type(op)](), value))
                found.append(Mutant(node, new, f"{ast.unparse(node)} -> {new}"))
            case ast.BoolOp(op, values):
                new = ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
                expression(node, new, f"{before} -> {ast.unparse(new)}")
            case ast.UnaryOp(ast.Not() | ast.USub(), operand):
                expression(node, operand, f"{before} -> {ast.unparse(operand)}")
            case ast.Constant(bool() as value):
                expression(node, ast.Constant(not value), f"{before} -> {not value}")
            case ast.Constant(int() | float() as value):
                for other in (value + 1, value - 1):
                    expression(node, ast.Constant(other), f"{before} -> {other}")
            case ast.Call(_, [ast.expr() as only], []) if not isinstance(only, ast.Starred | ast.GeneratorExp):
                if not _is_text(only):
                    expression(node, only, f"{before} -> {ast.unparse(only)}")
            case ast.Call(func, [first, second, *rest], keywords) if not _symmetric(func):
                alike = ast.dump(first) == ast.dump(second)
                if not alike and not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
                    new = ast.Call(func, [second, first, *rest], keywords)
                    expression(node, new, f"{before} -> {ast.unparse(new)}")
            case ast.Expr(ast.Call()):
                found.append(Mutant(node, "pass", f"{ast.unparse(node)} left out"))
            case ast.Return(ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                found.append(Mutant(node, "return None", f"{ast.unparse(node)} -> return None"))
            case ast.Break():
                found.append(Mutant(node, "continue", "break -> continue"))
            case ast.Continue():
                found.append(Mutant(node, "break", "continue -> break"))
            case ast.Expr(ast.Constant()):
                return
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            plain = not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant)
            if plain:
                text = ast.unparse(node.test)
                found.append(Mutant(node.test, f"(not ({text}))", f"{text} -> not {text}"))
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.keyword) and child.arg in _IDLE_KEYWORDS:
                    continue
                if isinstance(child, ast.AST):
                    visit(child)

    visit(ast.parse(source))
    found.sort(key=lambda mutant: (mutant.start, mutant.end, mutant.what))
    return found


def fault(source, old, new):
    """The one of `FAULTS` as a mutant: the first place where its text stands."""
    before = source[: source.index(old.encode())]
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n") - 1
    place = ast.Constant(0, lineno=line, col_offset=column, end_lineno=line, end_col_offset=column + len(old.encode()))
    return Mutant(place, new, f"{old} -> {new}")


def _is_text(node):
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _symmetric(function):
    return getattr(function, "attr", getattr(function, "id", "")) in _SYMMETRIC


class _Finder(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports one file of the package as other source."""

    def __init__(self, path, source):
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.is_init = parts[-1] == "__init__"
        super().__init__(".".join(parts[:-1] if self.is_init else parts), str(path))
        self.text = source

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.name:
            return None
        folder = [str(Path(self.path).parent)] if self.is_init else None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self, submodule_search_locations=folder
        )

    def get_code(self, fullname):
        # What asks for a function's source, as AutoGraph does, gets the mutant's, even if it has it looked up anew.
        lines, read = self.text.decode().splitlines(keepends=True), linecache.updatecache
        linecache.cache[self.path] = len(self.text), None, lines, self.path
        linecache.updatecache = lambda name, *more: lines if name == self.path else read(name, *more)
        return compile(self.text, self.path, "exec")


# Children ---------------------------------------------------------------------------------------------------------


def forked(function, seconds, log):
    """What a function returns (JSON) in a child of its own; None if it takes longer than `seconds`, or dies."""
    answer = Path(f"{log}.json")
    answer.write_text("")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
        with contextlib.suppress(BaseException):
            value = function()
            answer.write_text(json.dumps(value))
        os._exit(0)
    began = time.monotonic()
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() - began > seconds:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started and left
    text = answer.read_text()
    return json.loads(text) if text else None


class _Watch:
    """A pytest plugin: times of tests, the first that failed, and for coverage which one is running."""

    def __init__(self, coverage=None):
        self.seconds, self.failed, self.coverage = collections.defaultdict(float), None, coverage

    def pytest_runtest_logstart(self, nodeid):
        self.switch(nodeid, "setup")

    def pytest_runtest_call(self, item):
        self.switch(item.nodeid, "call")

    def pytest_runtest_teardown(self, item):
        self.switch(item.nodeid, "setup")

    def switch(self, nodeid, phase):
        if self.coverage:
            self.coverage.switch_context(f"{nodeid}|{phase}")

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def pytest_collectreport(self, report):
        if report.failed and self.failed is None:
            self.failed = f"collection of {report.nodeid}"


_PYTEST = ["-q", "-m", "not slow", "-p", "no:cacheprovider", "--tb=short", "--assert=plain"]


def run_tests(names, watch, *more):
    import pytest

    folder = tempfile.mkdtemp(prefix="mutant")
    try:
        code = pytest.main(
            # Where it rewrites asserts, pytest imports the file of a doctest by itself, as it lies on the disk.
            [*names, *_PYTEST, f"--basetemp={folder}/t", *more],
            plugins=[watch],
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(code)


def measured(files, tests):
    """Which lines of files each test passes: ({file: {line: [test]}}, {test: seconds}); "" for every test."""
    import coverage

    watcher = coverage.Coverage(data_file=None, include=[str(ROOT / file) for file in files], config_file=False)
    watch = _Watch(watcher)
    watcher.start()
    code = run_tests(tests, watch)
    watcher.stop()
    if code:
        raise SystemExit(f"the tests fail without a mutant: {watch.failed}")
    data = watcher.get_data()
    lines = {}
    for file in files:
        found = data.contexts_by_lineno(str(ROOT / file))
        lines[file] = {str(line): sorted(set(names)) for line, names in found.items()}
    return lines, watch.seconds


def to_pass(source, first, last):
    """The lines of which one is passed where a mutant's are: those of its statement; of a function's head its body."""
    for node in ast.walk(ast.parse(source)):  # the innermost comes last
        if isinstance(node, ast.stmt) and node.lineno <= first and last <= node.end_lineno:
            found = node
    body = getattr(found, "body", None)
    if not body:
        return found.lineno, found.end_lineno
    if isinstance(found, ast.FunctionDef) and last < body[0].lineno:
        return body[0].lineno, found.end_lineno
    return found.lineno, max(found.lineno, body[0].lineno - 1)


def around(source, first, last):
    """The lines of the outermost function about a mutant: what autograph rewrote runs under other numbers."""
    for node in ast.walk(ast.parse(source)):  # the outermost comes first
        if isinstance(node, ast.FunctionDef) and node.lineno <= first and last <= node.end_lineno:
            return node.body[0].lineno, node.end_lineno
    return first, last


def covering(lines, first, last, seconds):
    """Tests that pass lines, quickest first; what passes in a fixture counts for every test of its file."""
    names = {name for line in range(first, last + 1) for name in lines.get(str(line), ())} - {""}
    tests, modules = set(), set()
    for name in names:
        test, _, phase = name.rpartition("|")
        tests.add(test)
        if phase == "setup":
            modules.add(test.split("::")[0])
    if not names and str(first) in lines:  # as the file is imported
        tests = set(seconds)
    tests |= {test for test in seconds if test.split("::")[0] in modules}
    return sorted(tests & seconds.keys(), key=seconds.get)


def child(path, source, names):
    finder = _Finder(path, source)
    sys.meta_path.insert(0, finder)
    watch = _Watch()
    code = run_tests(names, watch, "-x")
    return {"code": code, "by": watch.failed}


def trial(path, source, names, seconds, log):
    """What became of a mutant: ("killed" or "survived", by what)."""
    expected = sum(seconds[name] for name in names)
    answer = forked(lambda: child(path, source, names), 20 + 4 * expected, log)
    if answer is None:
        return "killed", "took too long, or its process died"
    if answer["code"] in (0, 5):
        return "survived", None
    return "killed", answer["by"] or f"pytest's exit status {answer['code']}"


# Figures ----------------------------------------------------------------------------------------------------------


def wilson(killed, count):
    """The 95 % interval of a share, Wilson's."""
    if not count:
        return 0.0, 1.0
    share, z = killed / count, 1.96
    middle, width = share + z * z / 2 / count, z * math.sqrt(share * (1 - share) / count + z * z / 4 / count / count)
    return (middle - width) / (1 + z * z / count), (middle + width) / (1 + z * z / count)


def explained():
    rows = [json.loads(line) for line in EXPLAINED.read_text().splitlines()] if EXPLAINED.exists() else []
    return {(row["file"], row["line"], row["mutant"]): row["why"] for row in rows}


def table(rows):
    """The rows of a file of results as Markdown: a line a file, one a room, and all.

    Of a mutant that was tried several times the last counts; "at first" is the score of the first time, before tests
    were written for those that survived.
    """
    why = explained()
    first, last = {_place(row): row for row in reversed(rows)}, {_place(row): row for row in rows}
    columns = ("file", "mutants", "sample", "killed", "survived", "explained", "at first", "score")
    lines = [f"| {' | '.join(columns)} |", "|---" + "|--:" * (len(columns) - 1) + "|"]

    def score(part):
        kinds = collections.Counter(
            "explained" if row["outcome"] == "survived" and _key(row) in why else row["outcome"] for row in part
        )
        return kinds, 100 * kinds["killed"] / max(kinds["killed"] + kinds["survived"], 1)

    def line(name, places, interval=True):
        kinds, share = score([last[place] for place in places])
        low, high = wilson(kinds["killed"], kinds["killed"] + kinds["survived"])
        known = sum({last[place]["file"]: last[place]["of"] for place in places}.values())
        values = [name, known, len(places), kinds["killed"], kinds["survived"], kinds["explained"]]
        values.append(f"{score([first[place] for place in places])[1]:.0f} %")
        values.append(f"{share:.0f} %" + (f" ({100 * low:.0f} to {100 * high:.0f})" if interval else ""))
        lines.append(f"| {' | '.join(map(str, values))} |")

    for room in ROOMS:
        places = sorted(place for place, row in last.items() if row["room"] == room)
        if places:
            line(f"**{room}**", places)
            for file in sorted({file for file, *_ in places}):
                line(
                    f"`{file.removeprefix(PACKAGE + '/')}`",
                    [place for place in places if place[0] == file],
                    interval=False,
                )
    line("**all**", list(last))
    return "\n".join(lines)


def _key(row):
    return row["file"], row["line"], row["mutant"]


def _place(row):
    return row["file"], row["at"], row["mutant"]


def chosen(names):
    """{room: [file]} of names of rooms and files; all where there are none."""
    rooms = {}
    for room, (patterns, _) in ROOMS.items():
        files = [str(p.relative_to(ROOT)) for pattern in patterns for p in sorted((ROOT / PACKAGE).glob(pattern))]
        if names and room not in names:
            files = [file for file in files if any(file.endswith(name) for name in names)]
        if files:
            rooms[room] = files
    return rooms


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"rooms ({', '.join(ROOMS)}) or ends of files' paths")
    parser.add_argument("--sample", type=int, default=25, help="mutants of each file; 0 for all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="mutants.jsonl", help="results are added to it; what is there isn't run again")
    parser.add_argument("--again", metavar="RESULTS", help="run the survivors in a file of results instead of a sample")
    parser.add_argument("--at-most", type=float, default=math.inf, help="seconds of tests a mutant, the quickest first")
    parser.add_argument("--tests", nargs="*", help="these files of tests for every mutant, measuring nothing")
    parser.add_argument("--faults", action="store_true", help="try `FAULTS` instead, and print what noticed each")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", metavar="RESULTS")
    options = parser.parse_args()
    if options.table:
        print(table([json.loads(line) for line in Path(options.table).read_text().splitlines()]))
        return

    os.chdir(ROOT)
    # Children find what the first of them compiled, of tests as well, and no such file is left behind.
    sys.pycache_prefix, sys.dont_write_bytecode = tempfile.mkdtemp(), False
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    for name in ("cv2", "keras", "numpy", "pytest", "tensorflow", "torch"):  # what tests take longest to import
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    assert not any(name.split(".")[0] == PACKAGE for name in sys.modules)
    gc.freeze()  # a child's collections, of which pytest makes several, pass over what is imported

    out, why = Path(options.out), explained()
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {_place(row) for row in done}
    again = None
    if options.again:
        rows = {_place(row): row for row in map(json.loads, Path(options.again).read_text().splitlines())}
        again = {key for key, row in rows.items() if row["outcome"] == "survived" and _key(row) not in why}
        done = set()
    log = Path(tempfile.mkdtemp()) / "log"
    if options.faults:
        for file, old, new, pattern in FAULTS:
            path = ROOT / PACKAGE / file
            mutant = fault(path.read_bytes(), old, new)
            tests = {str(found.relative_to(ROOT)): 60.0 for found in sorted((ROOT / "tests").glob(pattern))}
            outcome, by = trial(path, mutant.source(path.read_bytes().splitlines(keepends=True)), tests, tests, log)
            print(f"{outcome}: {file}, {mutant.what}: {by}", flush=True)
        return
    for room, files in chosen(options.names).items():
        tests = [str(p.relative_to(ROOT)) for pattern in ROOMS[room][1] for p in sorted((ROOT / "tests").glob(pattern))]
        jobs = []
        for file in files:
            found = mutants_of((ROOT / file).read_bytes())
            order = list(range(len(found)))
            if again is not None:
                order = [number for number in order if (file, found[number].place, found[number].what) in again]
            elif options.sample:  # a larger sample has the smaller ones in it
                random.Random(f"{options.seed} {file}").shuffle(order)
            for number in sorted(order[: options.sample if again is None and options.sample else None]):
                if (file, found[number].place, found[number].what) not in done:
                    jobs.append((file, found[number], len(found)))
        if options.list:
            for file, mutant, _ in jobs:
                print(f"{file}:{mutant.place} {mutant.what}")
            continue
        if not jobs:
            continue
        if options.tests:
            result = None, {f"tests/{name}": 60.0 for name in options.tests}
        else:  # doctests count as tests of their file
            result = forked(lambda tests=tests, files=files: measured(files, [*tests, *files]), 1800, log)
        if result is None:
            raise SystemExit(f"{room}: no measurement:\n" + log.read_text()[-3000:])
        lines, seconds = result
        print(f"{room}: {len(jobs)} mutants, {len(seconds)} tests of {sum(seconds.values()):.0f} s", flush=True)
        for file, mutant, count in jobs:
            path = ROOT / file
            source = path.read_bytes()
            rows = source.splitlines(keepends=True)
            text = rows[mutant.start[0] - 1].decode().strip()
            began = time.monotonic()
            if options.tests:
                names = list(seconds)
            else:
                of = mutant.start[0], mutant.end[0]
                names = covering(lines[file], *to_pass(source, *of), seconds)
                names = names or covering(lines[file], *around(source, *of), seconds)
            while len(names) > 1 and sum(seconds[name] for name in names) > options.at_most:
                names.pop()
            outcome, by = ("survived", "no test passes it")
            if names:
                outcome, by = trial(path, mutant.source(rows), names, seconds, log)
            row = {"room": room, "file": file, "at": mutant.place, "line": text, "mutant": mutant.what, "of": count}
            row |= {"outcome": outcome, "by": by, "tests": len(names)}
            row |= {"seconds": round(time.monotonic() - began, 1), "seed": options.seed}
            with open(out, "a") as file_:
                file_.write(json.dumps(row) + "\n")
            if outcome == "survived":
                told = " (explained)" if _key(row) in why else ""
                print(f"{file}:{mutant.place} {mutant.what}{told}  {by or ''}", flush=True)
    if not options.list and out.exists():
        print(table([json.loads(line) for line in out.read_text().splitlines()]))


if __name__ == "__main__":
    main()
