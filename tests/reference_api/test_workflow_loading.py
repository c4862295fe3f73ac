"""Modules with workflows of one's own: how they are found, what they take, and what is said of mistakes in them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import InputError
from loadtest.reference_api.execution import Threads, Workflow
from loadtest.reference_api.loading import load_workflows
from loadtest.reference_api.messages import ApiError
from loadtest.reference_settings import ServerConfig

HEAD = "from typing import *\nfrom loadtest.reference_api import *\n"
Load = Callable[..., dict[str, Workflow]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def load(folder: Path) -> Load:
    """Write modules, given by path, and load workflows as a server would."""

    def write_and_load(*specs: str, **files: str) -> dict[str, Workflow]:
        for name, text in files.items():
            path = folder / (name.replace("__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(HEAD + text)
        return load_workflows(ServerConfig(workflows=specs), Threads(1))

    return write_and_load


def names(workflows: dict[str, Workflow]) -> set[str]:
    return set(workflows) - {"say-hello", "echo", "sleep", "fail", "cpu"}


def test_the_built_in_ones_are_always_there() -> None:
    """Five; one that computes runs in a thread, the others on the loop."""
    workflows = load_workflows(ServerConfig(), Threads(1))
    assert list(workflows) == ["say-hello", "echo", "fail", "sleep", "cpu"]
    assert [name for name, workflow in workflows.items() if workflow.threads] == ["cpu"]


def test_every_public_function_of_a_module_is_a_workflow(load: Load) -> None:
    """Under its name with - for _; what is private, imported or no function isn't."""
    text = (
        "from pathlib import Path\nfrom textwrap import dedent\n"
        "def resize_image(): ...\nasync def caption(): ...\ndef _helper(): ...\nclass Size: ...\n"
    )
    workflows = load("mine.py", mine=text)
    assert names(workflows) == {"resize-image", "caption"}
    assert workflows["caption"].threads is None
    assert workflows["resize-image"].threads is not None


def called(workflow: Workflow, **parameters: Any) -> Any:
    return workflow.call(parameters)()


def test_parameters_arrive_by_name(load: Load) -> None:
    """As JSON has them; those with a default may be left out, and ** takes all others."""
    text = (
        "def one(a, b=2, *, c: int = 3): return {'got': [a, b, c]}\n"
        "def rest(a, **others): return {'got': [a, others]}\n"
    )
    workflows = load("mine.py", mine=text)
    assert called(workflows["one"], a=[1]) == {"got": [[1], 2, 3]}
    assert called(workflows["one"], a=1, c="x", b=None) == {"got": [1, None, "x"]}
    assert called(workflows["rest"], a=1, self=2, given=3) == {"got": [1, {"self": 2, "given": 3}]}


@pytest.mark.parametrize(
    ("parameters", "field", "problem"),
    [
        ({}, "parameters.a", "Object missing required field `a`"),
        ({"a": 1, "bb": 2}, "parameters.bb", "Object contains unknown field `bb`"),
    ],
)
def test_missing_and_unknown_parameters_are_refused(load, parameters, field, problem):
    """400 `invalid_parameters`, naming the field; a server that ignores unknown ones drops them."""
    with pytest.raises(ApiError) as caught:
        load("mine.py", mine="def one(a, b=2): return {}\n")["one"].call(parameters)
    assert (caught.value.status, caught.value.code) == (400, "invalid_parameters")
    assert caught.value.details == {"workflow": "one", "field": field, "problem": problem}


@pytest.mark.parametrize(
    "spec", ["jobs.images", "jobs/images.py", "./jobs/images.py", "{folder}/jobs/images.py", "jobs"]
)
def test_modules_come_by_name_or_path(load: Load, folder: Path, spec: str) -> None:
    """Dotted from the working directory, or as a file; a module passes on what its `__all__` names."""
    (folder / "jobs").mkdir()
    (folder / "jobs" / "__init__.py").write_text("from jobs.images import resize\n__all__ = ['resize']\n")
    assert names(load(spec.format(folder=folder), jobs__images="def resize(): ...\n")) == {"resize"}


def test_a_file_imports_what_lies_beside_it(load: Load) -> None:
    """As it would if it was run; several files, the same one twice, and two of one name go together."""
    beside = "from beside_it import NUMBER\ndef one(): ...\none.__name__ += str(NUMBER)\n"
    workflows = load(
        "a/mine.py", "b/mine.py", "a/mine.py", a__mine=beside, a__beside_it="NUMBER = 1\n", b__mine="def two(): ...\n"
    )
    assert names(workflows) == {"one1", "two"}


@pytest.mark.parametrize(
    ("spec", "text", "says"),
    [
        ("nowhere.py", "", "nowhere.py: there is no such .py file"),
        ("mine.txt/", "", "there is no such .py file"),
        ("nowhere", "", "there is no module 'nowhere'"),
        ("mine.nowhere", "", "there is no module 'mine.nowhere'"),
        ("not-a-module", "", "neither a module nor a .py file"),
        ("mine.py", "import nowhere_at_all\n", "mine.py:3: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("mine", "import nowhere_at_all\n", "mine.py:3: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("mine.py", "def f(:\n", "mine.py:3: SyntaxError"),
        ("mine.py", "def f():\n    raise ValueError('a\\nb')\nf()\n", "mine.py:4: ValueError: a"),
        ("mine.py", "raise SystemExit(3)\n", "mine.py:3: SystemExit: 3"),
        ("mine.py", "def _f(): ...\n", "mine.py has no public function"),
        ("mine.py", "def echo(): ...\n", "mine.py:3 (echo): the workflow 'echo' already exists: built in"),
        ("mine.py", "def f(a, /): ...\n", "mine.py:3 (f) cannot be a workflow: its a can only be passed by position"),
        ("mine.py", "def f(*a): ...\n", "its a can only be passed by position"),
    ],
)
def test_mistakes_are_said_with_their_place(load: Load, spec: str, text: str, says: str) -> None:
    """Option, file, line, function, what is wrong and what to do about it."""
    with pytest.raises(InputError) as caught:
        load(spec, mine=text)
    assert str(caught.value).startswith(f"--workflows {spec}: ")
    assert says in str(caught.value)
    assert caught.value.remedy


def test_two_modules_may_not_share_a_name(load: Load) -> None:
    """The second is told where the first is."""
    with pytest.raises(InputError, match=r"--workflows b.py: b.py:3 \(f\): the workflow 'f' already exists: a.py:3"):
        load("a.py", "b.py", a="def f(): ...\n", b="def f(): ...\n")


def test_the_command_refuses_in_words(folder: Path, refused: Any) -> None:
    """One sentence and a remedy; what the module prints is not on standard output, which is for the address."""
    (folder / "mine.py").write_text("print('loud')\n1 / 0\n")
    assert refused("--workflows", "mine.py") == (
        "loud\nloadtest: --workflows mine.py: cannot be imported: mine.py:2: ZeroDivisionError: division by zero\n"
        "  Try: python mine.py\n"
    )


def test_writing_a_module_needs_nothing_of_the_server() -> None:
    """The import that a user's module begins with brings no server, and no other library."""
    absent = "uvicorn uvloop msgspec asyncio click"
    code = (
        f"import sys; from loadtest.reference_api import cancelled; print(*set({absent.split()!r}) & set(sys.modules))"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
