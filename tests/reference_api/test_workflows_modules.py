"""Modules with workflows of one's own: how they are found, and what is said of mistakes in them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import InputError
from loadtest.reference_api.config import ServerConfig
from loadtest.reference_api.loading import load_workflows
from loadtest.reference_api.threads import Threads
from loadtest.reference_api.workflows import Workflow

HEAD = "from typing import *\nimport msgspec\nfrom loadtest.reference_api import *\n"
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


def test_names_come_from_functions_or_as_given(load: Load) -> None:
    """A function's name with - for _, or any other; what isn't declared isn't served."""
    text = (
        "@workflow\ndef resize_image(): ...\n"
        "@workflow(name='Größe')\nasync def size(): ...\n"
        "@workflow()\ndef x(): ...\n"
        "def helper(): ...\n"
    )
    workflows = load("mine.py", mine=text)
    assert names(workflows) == {"resize-image", "Größe", "x"}
    assert workflows["Größe"].threads is None
    assert workflows["x"].threads is not None


@pytest.mark.parametrize(
    "spec", ["jobs.images", "jobs/images.py", "./jobs/images.py", "{folder}/jobs/images.py", "jobs"]
)
def test_modules_come_by_name_or_path(load: Load, folder: Path, spec: str) -> None:
    """Dotted from the working directory, or as a file; a module passes on what it imports from another."""
    (folder / "jobs").mkdir()
    (folder / "jobs" / "__init__.py").write_text("from jobs.images import resize\n")
    assert names(load(spec.format(folder=folder), jobs__images="@workflow\ndef resize(): ...\n")) == {"resize"}


def test_a_file_imports_what_lies_beside_it(load: Load) -> None:
    """As it would if it was run; several files, the same one twice, and two of one name go together."""
    beside = "from beside_it import NUMBER\n@workflow(name=f'one-{NUMBER}')\ndef one(): ...\n"
    workflows = load(
        "a/mine.py",
        "b/mine.py",
        "a/mine.py",
        a__mine=beside,
        a__beside_it="NUMBER = 1\n",
        b__mine="@workflow\ndef two(): ...\n",
    )
    assert names(workflows) == {"one-1", "two"}


def test_postponed_annotations_and_a_modules_own_types_work(load: Load, folder: Path) -> None:
    """`from __future__ import annotations` changes nothing."""
    (folder / "later.py").write_text(
        "from __future__ import annotations\nimport dataclasses\nfrom loadtest.reference_api import workflow\n"
        "@dataclasses.dataclass\nclass Size:\n    width: int\n"
        "@workflow\ndef resize(size: Size): ...\n"
    )
    assert load("later.py")["resize"].parse({"size": {"width": 3}})["size"].width == 3


@pytest.mark.parametrize(
    ("spec", "text", "says"),
    [
        ("nowhere.py", "", "nowhere.py: there is no such file"),
        ("mine.txt/", "", "there is no such file"),
        ("nowhere", "", "there is no module 'nowhere'"),
        ("mine.nowhere", "", "there is no module 'mine.nowhere'"),
        ("not-a-module", "", "neither a module nor a .py file"),
        ("mine.py", "import nowhere_at_all\n", "mine.py:4: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("mine", "import nowhere_at_all\n", "mine.py:4: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("mine.py", "def f(:\n", "mine.py:4: SyntaxError"),
        ("mine.py", "def f():\n    raise ValueError('a\\nb')\nf()\n", "mine.py:5: ValueError: a"),
        ("mine.py", "raise SystemExit(3)\n", "mine.py:4: SystemExit: 3"),
        ("mine.py", "workflow(3)\n", "TypeError: @workflow is for functions, and 3 is none"),
        ("mine.py", "def f(): ...\n", "mine.py declares no workflow"),
        ("mine.py", "@workflow\ndef echo(): ...\n", "mine.py:4 (echo): there is a workflow 'echo' already: built in"),
        (
            "mine.py",
            "@workflow\ndef f(): ...\n@workflow\ndef f(): ...\n",
            "mine.py:6 (f): there is a workflow 'f' already: mine.py:4 (f)",
        ),
        ("mine.py", "@workflow(name='')\ndef f(): ...\nworkflow(name=' \\n')(f)", "' \\n' is not a name"),
        ("mine.py", "@workflow\ndef f(a, /): ...\n", "mine.py:4 (f) cannot be a workflow: its parameter a can only be"),
        ("mine.py", "@workflow\ndef f(*a): ...\n", "its parameter *a can only be given by position"),
        ("mine.py", "class C: ...\n@workflow\ndef f(a: list[C]): ...\n", "parameter a has a type that JSON cannot be"),
        ("mine.py", "class C: ...\n@workflow\ndef f(**a: C): ...\n", "parameter a has a type that JSON cannot be"),
        ("mine.py", "@workflow\ndef f(a: Annotated[str, msgspec.Meta(ge=1)]): ...\n", "Can only set `ge` on a numeric"),
        ("mine.py", "@workflow\ndef f(a: 'Nowhere'): ...\n", "an annotation of it cannot be evaluated: name 'Nowhere'"),
        ("mine.py", "@workflow\ndef f():\n    yield\n", "it is a generator"),
        ("mine.py", "@workflow\nasync def f():\n    yield\n", "it is a generator"),
        ("mine.py", "@workflow(parameters=dict)\ndef f(): ...\n", "takes 0 arguments, not 1"),
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
    with pytest.raises(InputError, match=r"--workflows b.py: b.py:4 \(f\): there is a workflow 'f' already: a.py:4"):
        load("a.py", "b.py", a="@workflow\ndef f(): ...\n", b="@workflow\ndef f(): ...\n")


def test_the_command_refuses_in_words(folder: Path) -> None:
    """Exit 2 with one sentence and a remedy; nothing on standard output, no traceback."""
    (folder / "mine.py").write_text("print('loud')\n1 / 0\n")
    command = [sys.executable, "-m", "loadtest.cli", "serve", "--port", "0", "--workflows", "mine.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "loud\nloadtest: --workflows mine.py: it cannot be imported: mine.py:2: ZeroDivisionError: division by zero\n"
        "  Try it alone: python mine.py\n"
    )


def test_writing_a_module_needs_nothing_of_the_server() -> None:
    """The import that a user's module begins with brings no server, and no other library."""
    absent = "uvicorn uvloop msgspec asyncio click"
    code = (
        f"import sys; from loadtest.reference_api import workflow; print(*set({absent.split()!r}) & set(sys.modules))"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
