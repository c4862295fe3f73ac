"""README and docs: their commands work, their examples are valid, and their links lead somewhere.

A page's commands run in their order, in a folder of its own that looks like the checkout and has the files that the
page shows. Runs on the embedded target are replaced by one run of ``smoke`` with stages of a second and the options of
all pages. Runs on several processes and with ``--host`` are only parsed: ``tests/cli/test_crew_options.py`` and
``tests/cli/test_run_command.py`` make them, and ``tests/cli/test_plain_locust.py`` runs plain Locust as it is shown.
Comparisons and capacity searches, which take minutes, only plan.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from plugins.launched import AS_SHOWN
from plugins.pages import DOCUMENTS, ROOT, blocks, commands, shown
from plugins.processes import PATIENCE
from plugins.small_logs import write_log
from plugins.verbs import Said, until_valid

from loadtest.cli import app
from loadtest.errors import ExitCode
from loadtest.scenario import find_scenario, load_scenario, scenario_hash
from loadtest.targets import load_targets

pytestmark = pytest.mark.judged  # exit code 0 takes a valid run
LOADTEST = ".venv/bin/loadtest"
SERVED = "http://127.0.0.1:8000"
CONTROL = "http://127.0.0.1:8001"
ELSEWHERE = {"--host", "--processes"}
"""Options of runs that other tests make."""
PLAIN = f"LOADTEST_SCENARIO=smoke .venv/bin/locust --headless {shlex.join(AS_SHOWN)} out"
PLANNED = ("compare", "capacity")
SAME_ANYWHERE = ("export", "slow", "--help", "scenarios", "compare")
"""Verbs that read the shipped scenarios or the latest run, which all pages share."""
ROOMY = '{sync_run="240/1s", async_submit="1500/1s", retrieval="500/1s"}'
"""Limits of the embedded target that hold a shortened check."""
VALID = (ExitCode.PASS, ExitCode.INCONCLUSIVE, ExitCode.INVALID)


def shortened(scenario: str) -> list[str]:
    """Return the overrides that make each stage of a shipped scenario last a second."""
    traffic = tomllib.loads((ROOT / "scenarios" / f"{scenario}.toml").read_text(encoding="utf-8"))["traffic"]
    stages = [f"{name}.stages.{each['name']}" for name, entry in traffic.items() for each in entry["stages"]]
    sets = ["warmup=0s", *(f"traffic.{stage}.duration=1s" for stage in stages)]
    return [part for each in sets for part in ("--set", each)]


def run(line: list[str], folder: Path, **environment: str) -> Said:
    """Run a command as a process, without plots: tests of the report draw them."""
    done = subprocess.run(
        line,
        cwd=folder,
        env={**os.environ, "LOADTEST_PLOTS": "0", **environment},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def folder_like_the_checkout(folder: Path, reports: Path) -> Path:
    """Make a folder that has what the checkout has, with scenarios of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("loadtest", "pyproject.toml", "README.md", "Makefile", "docs"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "scenarios", folder / "scenarios")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "loadtest").symlink_to(Path(sys.executable).parent / "loadtest")
    reports.mkdir(exist_ok=True)
    if not (folder / "reports").exists():
        (folder / "reports").symlink_to(reports)
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder whose reports all pages share."""
    folder = tmp_path_factory.mktemp("checkout")
    return folder_like_the_checkout(folder, folder / "reports")


@pytest.fixture
def once(
    loadtest: Callable[..., Said],
    checkout: Path,
    made_before: dict[tuple[str, ...], Said],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Said]:
    """Carry out a verb whose runs must be valid in the checkout, unless it was before."""

    def carry_out(*words: str) -> Said:
        if words not in made_before:
            with monkeypatch.context() as here:
                here.chdir(checkout)
                made_before[words] = until_valid(lambda: loadtest(*words))
        return made_before[words]

    return carry_out


@pytest.fixture
def tiny_run(once: Callable[..., Said]) -> Said:
    """A run of ``smoke`` with stages of a second and the options of all pages."""
    shared = (embedded_options(line) for each in DOCUMENTS for line in commands(each))
    given = dict.fromkeys(option for options in shared for option in options)
    enough = ("--set", "traffic.jobs.stages.within.rate=12/s")  # a threshold takes ten operations
    return once("run", "smoke", *(word for option in given for word in option), *shortened("smoke"), *enough)


def embedded_options(line: str) -> list[tuple[str, ...]]:
    """Return the options, each with its value, of a run on the embedded target."""
    words = shlex.split(line)
    if words[:2] != [LOADTEST, "run"] or {"--target", *ELSEWHERE} & set(words):
        return []
    assert all(word.startswith("--") for word in words[3::2]), line
    return list(zip(words[3::2], words[4::2], strict=True))


@pytest.fixture
def recorded(checkout: Path, tiny_run: Said) -> Path:
    """The directory of a run that passed."""
    assert tiny_run.code == 0, tiny_run.out + tiny_run.err
    (found,) = re.findall(r"^report +\S+ (\S+)/report\.html", tiny_run.out, re.MULTILINE)
    return checkout / found


@pytest.fixture(scope="module")
def made_before() -> dict[tuple[str, ...], Said]:
    """Runs on entries of ``targets.toml`` by scenario and options, and verbs whose folder does not matter."""
    return {}


@pytest.fixture
def checked(once: Callable[..., Said]) -> Said:
    """The first regression check in a checkout, as the documents show it."""
    roomy = ("--set", f"target.enforce={ROOMY}")
    return once("regression", "check", "regression", *shortened("regression"), *roomy)


class Page:
    """A page in a folder of its own, whose commands are carried out.

    Args:
        document: the page.
        folder: where its commands run.
        request: gives the fixtures that a command needs.
    """

    def __init__(self, document: Path, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self._fixture = request.getfixturevalue
        self._lines = commands(document)
        self._served: subprocess.Popen[str] | None = None
        self._urls = {SERVED: "", CONTROL: ""}
        exported = dict(re.findall(r"^export (\w+)=(\S+)$", "\n".join(self._lines), re.MULTILINE))
        serves = any(f"{LOADTEST} serve" in line for line in self._lines)
        if not serves and any("--target" in line or SERVED in line for line in self._lines):
            self._urls[SERVED] = self._fixture("servers").start(strict=True, env=exported).url
        for line in self._lines:
            for name in shlex.split(line)[2:] if f"{LOADTEST} import " in line else ():
                write_log(folder / name)
        for name, text in shown(document).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(re.sub(r"https://[\w.-]+", self._urls[SERVED], text), encoding="utf-8")

    def carry_out(self, line: str) -> Said:
        """Carry out a command; gives what it said."""
        first, *rest = shlex.split(line)
        if first == "make":
            return run(["make", "-n", *rest], ROOT)
        if first == "export":
            self._fixture("monkeypatch").setenv(*rest[0].split("=", 1))
            return Said(0, line, "")
        if first == "curl":
            return self._curl(rest)
        if first != LOADTEST:
            assert line == PLAIN
            return Said(0, line, "")
        verb = rest[0]
        if verb == "serve":
            return self._serve(rest)
        if verb == "run":
            return self._run(rest)
        if rest[:2] == ["regression", "check"]:
            assert rest[2:] == ["regression"]
            return self._fixture("checked")
        return self._verb(verb, rest)

    def _run(self, rest: list[str]) -> Said:
        """Make a run, unless it was made before."""
        if "--target" not in rest:
            command = app.get_command(click.Context(app), "run")
            assert command is not None
            command.make_context("run", rest[1:])
            said: Said = self._fixture("tiny_run")
            return said
        made: dict[tuple[str, ...], Said] = self._fixture("made_before")
        if (key := (scenario_hash(load_scenario(find_scenario(rest[1])).scenario), *rest[2:])) not in made:
            made[key] = self._fixture("loadtest")(*rest, *shortened(Path(rest[1]).stem))
        return made[key]

    def _verb(self, verb: str, rest: list[str]) -> Said:
        """Run a verb in this process, short."""
        if verb == "regression":
            self._fixture("checked")
        if verb in PLANNED and "--plan" not in rest:
            rest = [*rest, "--plan"]
        if verb == "plan" and "--start" not in rest:  # many starts take their time, and tests of plans try them
            rest = [*rest, "--start", "12:00:00"]
        url = self._urls[SERVED]
        if verb == "probe":
            rest = [*rest, "--documented", "retrieval=10/1s"]
            url = self._fixture("servers").start("--limit", "retrieval=10/1s").url
        words = tuple(word.replace(SERVED, url) for word in rest)
        made: dict[tuple[str, ...], Said] = self._fixture("made_before")
        if verb not in SAME_ANYWHERE or words not in made:
            made[words] = self._fixture("loadtest")(*words)
        return made[words]

    def _serve(self, rest: list[str]) -> Said:
        """Start the server of the page, which runs until its end."""
        line = [LOADTEST, *rest, "--port", "0", *(("--control-port", "0") if "--control-port" in rest else ())]
        self._served = subprocess.Popen(line, cwd=self.folder, stdout=subprocess.PIPE, text=True)
        for wanted, word in ((SERVED, "Workflow API (reference) on "), (CONTROL, "control on ")):
            if wanted == SERVED or "--control-port" in rest:
                while not (said := self._served.stdout.readline().strip()).startswith(word):
                    assert said, "the server ended"
                self._urls[wanted] = said.removeprefix(word)
        return Said(0, self._urls[SERVED], "")

    def _curl(self, rest: list[str]) -> Said:
        """Send the request of a curl command to the page's server."""
        if not shutil.which("curl"):
            pytest.skip("curl is missing")
        words = [re.sub(r"http://127.0.0.1:800[01]", lambda url: self._urls[url[0]], word) for word in rest]
        return run(["curl", "--silent", "--show-error", "--fail", *words], self.folder)

    def end(self) -> int:
        """End the page's server; gives its exit code."""
        if self._served is None:
            return 0
        self._served.terminate()
        code = self._served.wait(PATIENCE)
        self._served.stdout.close()
        return code


@pytest.fixture
def page(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkout: Path, recorded: Path
) -> Page:
    """The page of a test; ``latest`` is the run that passed, whatever ran since."""
    document: Path = request.param
    folder = folder_like_the_checkout(tmp_path_factory.mktemp(document.stem), checkout / "reports")
    latest = checkout / "reports" / "latest"
    latest.unlink()
    latest.symlink_to(recorded.name)
    request.getfixturevalue("loadtest")
    request.getfixturevalue("monkeypatch").chdir(folder)
    return Page(document, folder, request)


def expected(line: str) -> tuple[int, ...]:
    """Return the exit codes that mean that a command worked."""
    if re.search(r" run .*--target", line):
        return VALID  # a second is too short for its percentiles
    return (ExitCode.PASS, ExitCode.INCONCLUSIVE) if " probe " in line else (ExitCode.PASS,)


@pytest.mark.parametrize(
    "page", [each for each in DOCUMENTS if commands(each)], ids=lambda path: path.stem, indirect=True
)
def test_the_commands_of_a_page_work(page: Page, request: pytest.FixtureRequest) -> None:
    """Each command ends as it should, and says something."""
    document: Path = request.node.callspec.params["page"]
    try:
        for line in commands(document):
            done = page.carry_out(line)
            assert done.code in expected(line), f"{line}\n{done.out}{done.err}"
            assert done.out.strip(), line
            if f"{LOADTEST} run " in line:
                assert "http://127.0.0.1:" in done.out
                assert re.search(r"^report +\S+ \S+/report\.html", done.out, re.MULTILINE), done.out
    finally:
        assert page.end() == 0


def test_every_page_of_docs_begins_with_its_task() -> None:
    """A title, a paragraph, and a block of commands before the first heading."""
    for document in DOCUMENTS[1:]:
        head = document.read_text(encoding="utf-8").partition("\n## ")[0]
        assert re.match(r"# [^\n]+\n\n[A-Z`]", head), document.name
        assert "```sh\n" in head, document.name


def test_every_command_is_one_that_runs_here() -> None:
    """A block of commands holds these only, and no other block holds a command: it would go unchecked."""
    known = re.compile(rf"make\b|export \w+=|curl |{LOADTEST} |{PLAIN}$")
    assert [line for each in DOCUMENTS for line in commands(each) if not known.match(line)] == []
    for document in DOCUMENTS:
        for block in blocks(document.read_text(encoding="utf-8"), r"(?!sh\b)\w*"):
            assert not re.search(r"^(\$ |make |curl |loadtest |locust |\.venv/|docker |git )", block, re.MULTILINE), (
                block
            )


def test_commands_within_sentences_exist() -> None:
    """Their verb and options are those of the command line; so are those of lines with a prompt."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for said in re.findall(r"`loadtest ([a-z][^`]*)`|^\w+\$ loadtest (.+)$", text, re.MULTILINE):
            verb, *rest = "".join(said).split()
            command = app.get_command(click.Context(app), verb)
            if isinstance(command, click.Group) and rest:
                command = command.get_command(click.Context(command), rest[0])
            assert command is not None, said
            options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
            assert {word for word in rest if word.startswith("--")} <= options, said


def test_make_lists_the_targets_that_are_shown() -> None:
    """Every make target of the documents has a line in make's own list."""
    listed = run(["make"], ROOT).out
    for line in {line for each in DOCUMENTS for line in commands(each) if line.startswith("make")}:
        target = next((word for word in line.split()[1:] if "=" not in word), "help")
        assert f"make {target} " in listed


def test_a_first_check_learns(checked: Said) -> None:
    """On a bare clone there is nothing to compare with: it says so, and passes."""
    assert checked.code == 0, checked.out + checked.err
    assert "learning" in checked.out.lower()


def test_targets_that_are_shown_are_read(tmp_path: Path) -> None:
    """Entries of ``targets.toml`` miss nothing; certificates of an example need not exist."""
    entries = [
        block for each in DOCUMENTS for block in blocks(each.read_text(encoding="utf-8"), "toml") if "\nurl = " in block
    ]
    assert len(entries) >= 2
    for text in entries:
        (tmp_path / "targets.toml").write_text(text, encoding="utf-8")
        (entry,) = load_targets(tmp_path / "targets.toml").values()
        assert entry.owner == "team@example.com"


def test_the_scenarios_and_user_classes_shown_work(
    checkout: Path, tmp_path: Path, loadtest: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """README's scenario, the example of a user class and the user that moved over run beside each other, in one."""
    folder = folder_like_the_checkout(tmp_path / "shown", checkout / "reports")
    files = {name: text for each in DOCUMENTS for name, text in shown(each).items() if name.startswith("scenarios/")}
    assert {"scenarios/greetings.toml", "scenarios/patient.toml", "scenarios/moved.toml"} <= files.keys()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    names = sorted(name for name in files if name.endswith(".toml"))
    monkeypatch.chdir(folder)
    done = loadtest("validate", *names)
    assert done.code == 0, done.err
    with (folder / "scenarios/patient.toml").open("a", encoding="utf-8") as together:
        for name in ("greetings", "moved"):
            text = files[f"scenarios/{name}.toml"].replace("traffic.greetings", f"traffic.{name}")
            text = text.replace('"greetings"', f'"{name}"').replace('duration = "60s"', 'duration = "1s"')
            together.write(text[text.index("[traffic") :].partition("[[compare]]")[0])
    more = ("--set", "traffic.greetings.stages.within.rate=10/s")
    done = until_valid(lambda: loadtest("run", "scenarios/patient.toml", *more))
    assert done.code in {ExitCode.PASS, ExitCode.FAIL}, done.out + done.err
    assert re.search(r"^moved +steady +20 +100.% ", done.out, re.MULTILINE), done.out
    assert re.search(r"^greetings +within +10 +100.% ", done.out, re.MULTILINE), done.out


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("page", [DOCUMENTS[0]], ids=["README"], indirect=True)
def test_the_lines_of_python_shown_give_a_data_frame() -> None:
    """``loadtest.analysis.operations`` gives a DataFrame in one line, as the README shows."""
    (code,) = blocks(DOCUMENTS[0].read_text(encoding="utf-8"), "python")
    names: dict[str, object] = {}
    exec(code, names)
    assert type(names["df"]).__name__ == "DataFrame"
    assert len(names["df"]) > 0
