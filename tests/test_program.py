"""Commands that are printed work where they are printed: on PATH, in a checkout, and elsewhere."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.program import open_command, pasteable, program, serve_command, typed


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    program.cache_clear()
    yield
    program.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a virtual environment, to be in; nothing is on PATH."""
    folder = tmp_path / "a checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / "scenarios").mkdir()
    (folder / "Makefile").touch()
    for name in ("python", "loadtest"):
        (folder / ".venv" / "bin" / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / ".venv" / "bin" / "python"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(folder)
    return folder


def test_in_a_checkout_the_path_from_there(checkout: Path) -> None:
    """As after `make run`; the API at its own port is then started by make."""
    assert program() == ".venv/bin/loadtest"
    assert typed("loadtest runs") == ".venv/bin/loadtest runs"
    assert pasteable("Try `loadtest plan a`, or `loadtest run a`.") == (
        "Try `.venv/bin/loadtest plan a`, or `.venv/bin/loadtest run a`."
    )
    assert serve_command() == "make serve"


def test_elsewhere_the_whole_path(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quoted as a shell needs it."""
    monkeypatch.chdir(checkout / "scenarios")
    assert program() == f"'{checkout}/.venv/bin/loadtest'"


def test_on_path_the_name_alone(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program of this name that is found first does not count."""
    own = checkout / ".venv" / "bin"
    monkeypatch.setenv("PATH", str(own))
    assert program() == "loadtest"
    assert serve_command() == "loadtest serve"
    other = checkout / "other"
    other.mkdir()
    (other / "loadtest").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{other}:{own}")
    program.cache_clear()
    assert program() == ".venv/bin/loadtest"


def test_a_page_opens_also_where_the_desktop_has_no_command(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own way, with the page as a URL."""
    assert open_command(Path("a b.html")).endswith(f"-m webbrowser {(checkout / 'a b.html').as_uri()}")
    tools = checkout / "tools"
    tools.mkdir()
    for name in ("xdg-open", "open"):
        (tools / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tools))
    assert open_command(Path("a b.html")).endswith("open 'a b.html'")
