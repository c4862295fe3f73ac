"""The house keeps its shape: directions of imports, sizes of files and functions, docstrings, nothing of a machine."""

import ast
import functools
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from loadtest.contract import JobState, LimitName, Operation, Outcome

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "loadtest").rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

LEAVES = {
    "arrays",
    "errors",
    "console",
    "foreign_text",
    "http_headers",
    "processes",
    "program",
    "contract",
    "units",
    "words",
    "limits",
    "faults",
    "seeded_random",
    "metrics",
    "threshold",
    "stats",
    "schedule",
    "credentials",
    "reference_settings",
}
SHARED = {"scenario", "record", "assumed_limits", "plan", "prepare", "targets"}

# room -> the rooms that it may import (itself always). A room that is not here may not be there.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "console": {"foreign_text"},
    "foreign_text": set(),
    "http_headers": set(),
    "processes": {"errors", "program"},
    "program": {"errors", "words"},
    "units": set(),
    "arrays": set(),
    "contract": {"units"},
    "words": {"contract", "units"},
    "seeded_random": set(),
    "stats": {"arrays"},
    "schedule": {"arrays", "record"},
    "limits": {"arrays", "errors", "stats", "units", "words"},
    "limits.probing": LEAVES | {"record"},
    "faults": {"contract", "errors", "units", "words"},
    "metrics": {"contract", "units"},
    "threshold": {"contract", "errors", "metrics", "units", "words"},
    "credentials": {"errors"},
    "reference_settings": {"contract", "credentials", "errors", "faults", "limits", "units"},
    "record": {"contract", "errors", "foreign_text", "program", "units"},
    "scenario": LEAVES | {"record"},
    "assumed_limits": LEAVES | {"record", "scenario"},  # of scenario the types alone
    "targets": LEAVES | {"scenario", "record", "assumed_limits", "plan"},
    "plan": LEAVES | {"scenario", "record", "assumed_limits"},
    "prepare": LEAVES | {"scenario", "record", "assumed_limits", "plan", "targets"},
    "logs": LEAVES | {"record"},
    "reference_api": LEAVES,
    "load": LEAVES | SHARED,
    "preflight": LEAVES | SHARED | {"limits.probing"},
    "compare": LEAVES | {"record"},
    "capacity": LEAVES | {"record", "scenario", "assumed_limits", "plan"},
    "advice": LEAVES | {"record", "scenario"},
    "analysis": LEAVES | SHARED | {"compare"},
    "report": LEAVES | SHARED | {"compare", "capacity", "advice", "analysis", "limits.probing"},
    "terminal": LEAVES | {"record", "plan", "compare"},
    # load, preflight and report are processes of their own, which runs starts; so is the target.
    "runs": LEAVES | SHARED | {"compare", "limits.probing", "capacity", "advice", "terminal"},
    "cli": LEAVES | SHARED | {"compare", "logs", "runs", "terminal"},
    "": set(),  # loadtest/__init__.py imports nothing
}

# package -> where it may be imported; of all others any room may.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "locust": ("loadtest/load/",),
    "gevent": ("loadtest/load/",),
    "httpx": ("loadtest/preflight/", "loadtest/advice/client.py"),  # the latter is a file for users, never imported
    "pandas": ("loadtest/analysis/", "loadtest/report/plots/"),
    "matplotlib": ("loadtest/report/",),
    "jinja2": ("loadtest/report/",),
    "uvicorn": ("loadtest/reference_api/",),
    "uvloop": ("loadtest/reference_api/",),
    "pydantic": ("loadtest/scenario/", "loadtest/targets/"),
    "click": ("loadtest/cli/", "loadtest/reference_api/command.py"),
    "prometheus_client": ("loadtest/reference_api/", "loadtest/load/web/"),
}
# file -> words in it that are no operation, limit, job state or outcome, though they look like one.
OTHER_WORDS: dict[str, set[str]] = {
    "loadtest/advice/client.py": {"sync_run", "async_submit", "retrieval", "completed", "failed"},  # users' own
    "loadtest/cli/preflight.py": {"ok", "failed"},  # of a check
    "loadtest/compare/amounts.py": {"throttled"},  # kinds of findings
    "loadtest/compare/results.py": {"throttled"},
    "loadtest/preflight/__main__.py": {"ok", "failed"},
    "loadtest/record/run_info.py": {"ok", "failed", "lost"},
    "loadtest/analysis/validity.py": {"lost"},  # of a worker
    "loadtest/load/distributed/assignment.py": {"lost"},
    "loadtest/reference_api/monitoring.py": {"ok"},  # of the server's health
    "loadtest/report/headline.py": {"retrieval", "failed"},  # what a sentence says
    "loadtest/report/run.py": {"pending"},  # a table's id
    "loadtest/report/tables/__init__.py": {"lost"},
    "loadtest/report/tables/target.py": {"lost", "pending"},  # a job that is known no longer, and a table
}
MAX_FILE, MAX_FUNCTION = 400, 45


def module_name(path: str) -> str:
    """`loadtest/plan/__init__.py` is `loadtest.plan`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room(module: str) -> str:
    """The longest entry of the table: `loadtest.load.exchange` is in `load`, and `limits.probing` is a room."""
    parts = module.split(".")[1:]
    inner = ".".join(parts[:2])
    return inner if inner in MAY_IMPORT else ".".join(parts[:1])


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The code of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Every node of it."""
    return list(ast.walk(parsed(path)))


@functools.cache
def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it; `from loadtest import x` is `loadtest.x`."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides its direction"
            own = node.module == "loadtest"
            found |= {f"loadtest.{alias.name}" for alias in node.names} if own else {str(node.module)}
    return found


def test_imports_go_one_way() -> None:
    """Each file imports only the rooms below its own, as the table says."""
    wrong = []
    for name in NAMES:
        here = room(module_name(name))
        assert here in MAY_IMPORT, f"{here!r} is a new room: say in the table what it may import"
        allowed = MAY_IMPORT[here] | {here}
        own = {module for module in imports(ROOT / name) if module.startswith("loadtest.")}
        wrong += [
            f"{name} imports {module}, but {here!r} may import {sorted(allowed)} only"
            for module in sorted(own)
            if room(module) not in allowed
        ]
    assert not wrong, "\n".join(wrong)


@functools.cache
def offered(package: str) -> set[str]:
    """What a room lets others import: the names and modules in `__all__` of its `__init__`."""
    path = ROOT / package.replace(".", "/") / "__init__.py"
    lists = [
        node.value
        for node in parsed(path).body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
    ]
    return set(ast.literal_eval(lists[0])) if lists else set()


def test_rooms_import_only_what_others_offer() -> None:
    """No room reaches past the surface of another: a module or name that is not in its `__all__` is its own affair."""
    wrong = []
    for name in NAMES:
        here = room(module_name(name))
        for node in nodes(ROOT / name):
            if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("loadtest."):
                continue
            there = room(str(node.module))
            package = f"loadtest.{there}"
            if there == here or not (ROOT / package.replace(".", "/") / "__init__.py").is_file():
                continue  # a module, or a folder that once held modules and now only __pycache__
            inside = str(node.module).removeprefix(package).lstrip(".").split(".")[0]
            taken = {inside} if inside else {alias.name for alias in node.names}
            wrong += [f"{name}:{node.lineno}: {package} offers no {each}" for each in sorted(taken - offered(package))]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """There is no circle of imports, within a room neither: each module can be read, tested and moved alone."""
    modules = {module_name(name): ROOT / name for name in NAMES}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        graph[module] = set()
        for node in nodes(path):
            if isinstance(node, ast.Import):
                graph[module] |= {alias.name for alias in node.names} & set(modules)
            elif isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[module] |= whole & set(modules)
                if whole - set(modules):  # a name of a package, and not a module of it, comes from its `__init__`
                    graph[module] |= {str(node.module)} & set(modules)
        graph[module].discard(module)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_a_public_type_is_defined_once() -> None:
    """A type's name means one thing in the whole package."""
    places: dict[str, list[str]] = {}
    for name in NAMES:
        for node in parsed(ROOT / name).body:
            named = node.name if isinstance(node, ast.ClassDef) else ""
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(target, ast.Name) and not target.id.isupper():
                named = target.id
            if named[:1].isupper():
                places.setdefault(named, []).append(name)
    assert {named: where for named, where in places.items() if len(where) > 1} == {}


def test_packages_stay_in_their_rooms() -> None:
    """`import locust` patches the interpreter and pandas is slow to import: each is let into its own rooms only."""
    wrong = []
    for name in NAMES:
        tops = {module.split(".")[0] for module in imports(ROOT / name)}
        wrong += [f"{name} imports {top}" for top in tops & set(ONLY_IN) if not name.startswith(ONLY_IN[top])]
    assert not wrong, "\n".join(wrong)


def test_the_words_of_the_api_are_spelled_once() -> None:
    """No operation, limit, job state or outcome is a literal outside contract.py: it is a member of its enum there.

    The states and outcomes are common words, which sentences and names of fields, slots and tags may hold.
    """
    everywhere, common = {*Operation, *LimitName}, {*JobState, *Outcome}
    wrong = [
        f"{name}:{node.lineno} spells {node.value!r}"
        for name in NAMES
        if name != "loadtest/contract.py"
        for words, literals in ((everywhere, literals_of(ROOT / name)), (common, spelled(ROOT / name)))
        for node in literals
        if node.value in words and node.value not in OTHER_WORDS.get(name, ())
    ]
    assert not wrong, "\n".join(wrong)


def literals_of(path: Path) -> list[ast.Constant]:
    """The literals of a file."""
    return [node for node in nodes(path) if isinstance(node, ast.Constant)]


def spelled(path: Path) -> list[ast.Constant]:
    """The literals of a file, without pieces of a sentence and names of fields, slots and tags."""
    other: set[ast.AST] = set()
    for node in nodes(path):
        if isinstance(node, ast.JoinedStr):
            other |= {*node.values}
        elif isinstance(node, ast.keyword) and node.arg in {"name", "tag"}:
            other.add(node.value)
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__slots__":
            other |= {*ast.walk(node.value)}
    return [node for node in literals_of(path) if node not in other]


def test_files_and_functions_are_short_and_documented() -> None:
    """At most 400 lines a file and 45 a function; modules and their public classes and functions have docstrings."""
    wrong = [mistake for name in NAMES for mistake in shape_mistakes(name)]
    assert not wrong, "\n".join(wrong)


def shape_mistakes(name: str) -> list[str]:
    """What is too long or says nothing of itself in a file."""
    text, tree = (ROOT / name).read_text(encoding="utf-8"), parsed(ROOT / name)
    wrong = [f"{name} has {lines} lines"] if (lines := len(text.splitlines())) > MAX_FILE else []
    if text.strip() and not ast.get_docstring(tree):
        wrong.append(f"{name} has no docstring")
    for node in nodes(ROOT / name):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            wrong += [f"{name}:{node.lineno}: {node.name} has {length} lines"] if length > MAX_FUNCTION else []
    return wrong + [
        f"{name}:{node.lineno}: {node.name} has no docstring"
        for node in public(tree)
        if not ast.get_docstring(node, clean=False)
    ]


def public(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Public classes and functions of a module; a method has a docstring where its signature leaves something open."""
    return [
        each
        for each in tree.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not each.name.startswith("_")
        and not any(isinstance(by, ast.Name) and by.id == "overload" for by in each.decorator_list)
    ]


def tracked() -> list[Path]:
    """Text files of the repository; of a folder without git, those of the code."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0") if listed.returncode == 0 else NAMES
    paths = [ROOT / name for name in names if name and not name.startswith("reports/")]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8000]]


def test_nothing_names_a_machine_or_a_registry() -> None:
    """No file holds an absolute path of whoever wrote it, nor the address of a package registry."""
    # Put together from parts, so that this file doesn't hold what it looks for.
    words = ["/" + "root/", "/" + "work/", "/" + r"home/\w+/", "/" + r"Users/\w+/"]
    words += ["pypi" + r"\.org", "files" + r"\.pythonhosted", "--" + "index-url", "--" + "find-links"]
    pattern = re.compile("|".join(rf"(?<![\w.]){word}" for word in words))
    hits = []
    for path in tracked():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if pattern.search(line):
                hits.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not hits


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        (
            "from loadtest.cli import main; main(['--help'])",
            "locust gevent pandas matplotlib pyarrow pydantic numpy httpx jinja2",
        ),
        ("import loadtest.cli.run, loadtest.cli.ui, loadtest.cli.recorded, loadtest.cli.scenarios", "locust gevent"),
        ("import loadtest.cli.run, loadtest.cli.ui, loadtest.cli.recorded", "pandas matplotlib"),
        ("import loadtest.report.run", "locust gevent pydantic pandas"),
        ("import loadtest.reference_api.server", "locust gevent pandas matplotlib numpy pyarrow"),
    ],
)
def test_what_a_process_never_sees(statement: str, absent: str) -> None:
    """What tables of imports can't show: modules that are really loaded, libraries' own imports included."""
    script = f"{statement}\nimport sys\nprint(*sorted(set({absent.split()!r}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.split() == []
