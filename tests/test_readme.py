"""What the README shows exists, and its quick commands do what it says: run from a folder beside, at a tiny scale."""

import os
import re
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import click
import pytest
from plugins.verbs import CARRIED_OUT, Said, until_valid

from loadtest.cli import app
from loadtest.errors import ExitCode
from loadtest.scenario import find_scenario, load_scenario
from loadtest.targets import load_targets

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TINY = [
    part
    for traffic in ("greetings", "jobs", "lookups")
    for stage in ("within", "above")
    for part in ("--set", f"traffic.{traffic}.stages.{stage}.duration=1s")
]

SHORT = [
    part
    for traffic in ("runs", "nothing", "unknown", "jobs", "lookups")
    for part in ("--set", f"traffic.{traffic}.stages.within.duration=1s")
]
SHORT += [
    "--set",
    "warmup=0s",
    "--set",
    'target.enforce={sync_run="240/1s", async_submit="1500/1s", retrieval="500/1s"}',
]


def commands(document):
    blocks = re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


ALL = [(document.name, line) for document in DOCUMENTS for line in commands(document)]
MAKE = sorted({line for _, line in ALL if line.split()[0] == "make"})
LOADTEST = sorted({line for _, line in ALL if ".venv/bin/loadtest" in line})
SEVERAL = " --processes "
"""Of a run on more processes than these cores can serve beside other tests: it may be late, and says so."""
pytestmark = pytest.mark.judged  # exit code 0 takes a valid run
RUNS = [line for line in LOADTEST if " run " in line and "--host" not in line]
COMPARE = [line for line in LOADTEST if " compare " in line]
CHECK = [line for line in LOADTEST if " regression check " in line]
QUICK = [line for line in LOADTEST if not re.search(r"loadtest (run|serve|compare|regression check) ", line)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder that looks like the checkout to commands, but has reports of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("scenarios", "loadtest", "pyproject.toml", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("loadtest", "locust"):
        (folder / ".venv" / "bin" / name).symlink_to(Path(sys.executable).parent / name)
    return folder


def run(line, checkout, **environment):
    # Plots take longer than such a run: tests of the report draw them.
    done = subprocess.run(
        shlex.split(line),
        cwd=checkout,
        env={**os.environ, "LOADTEST_PLOTS": "0", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run_here(checkout, loadtest, monkeypatch):
    """Run a line of `loadtest` in this process, in the checkout."""
    monkeypatch.chdir(checkout)

    def run(line):
        program, *arguments = shlex.split(line)
        assert program == ".venv/bin/loadtest"
        return loadtest(*arguments)

    return run


@pytest.fixture(scope="module")
def tiny_run(checkout):
    """Run a `loadtest run` of the documents with stages of a second, once; gives what it printed and its directory."""
    made = {}

    def make(line):
        if line not in made:
            once = partial(run, f"{line} {shlex.join(TINY)}", checkout)
            done = once() if SEVERAL in line else until_valid(once)
            made[line] = (done, (checkout / "reports" / "latest").resolve())
        return made[line]

    return make


@pytest.fixture(scope="module")
def recorded(tiny_run):
    """The last of these."""
    done, directory = tiny_run(RUNS[-1])
    assert done.code == 0, done.out + done.err
    return directory


@pytest.fixture
def latest(recorded):
    """Let `latest` be that run again, whatever other tests ran since."""
    link = recorded.parent / "latest"
    link.unlink()
    link.symlink_to(recorded.name)


@pytest.fixture
def server(servers):
    """The server of `make serve`, on a free port; it ends with 0."""
    return servers.start(strict=True).url


def test_every_command_is_one_that_is_known_here():
    """A block of commands holds make, loadtest and locust only: anything else would go unchecked."""
    unknown = [
        line
        for _, line in ALL
        if not re.match(r"(make\b|\.venv/bin/loadtest |LOADTEST_SCENARIO=\S+ \.venv/bin/locust )", line)
    ]
    assert unknown == []


@pytest.fixture(scope="module")
def targets():
    """What `make` lists."""
    return subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("line", MAKE)
def test_make_targets_exist(line, targets):
    """Every make target of the README is one, and has a line in make's own list."""
    target = next((word for word in line.split()[1:] if "=" not in word), "help")
    assert subprocess.run(["make", "-n", *line.split()[1:]], cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert f"make {target} " in targets


@pytest.fixture(scope="module")
def checked(checkout):
    """The README's `loadtest regression check`, in a checkout that never made one."""
    (line,) = CHECK
    return until_valid(lambda: run(f"{line} {shlex.join(SHORT)}", checkout))


def test_a_first_check_learns(checked):
    """On a bare clone there is nothing to compare with: it says so, and passes."""
    assert checked.code == 0, checked.out + checked.err
    assert "learning" in checked.out.lower()


def test_the_comparison_shown_is_one():
    """Its options are read, its scenario is there, and its fault is one of the reference API."""
    (line,) = COMPARE
    _, verb, *rest = shlex.split(line)
    given = app.get_command(click.Context(app), verb).make_context(verb, rest).params
    loaded = load_scenario(find_scenario(given["scenario"], ROOT / "scenarios"), given["head_set"])
    assert [fault.factor for fault in loaded.scenario.target.settings.fault] == [1.2]


def test_the_target_shown_is_one(tmp_path):
    """The entry for the real API is read as it stands, but for its address nothing is missing."""
    text = re.search(
        r"^```text\n(\[production\]\n.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )[1]
    (tmp_path / "targets.toml").write_text(text)
    (entry,) = load_targets(tmp_path / "targets.toml").values()
    assert entry.environment == "production"


@pytest.mark.parametrize("line", QUICK)
def test_quick_commands_work(line, latest, run_here, request):
    """Everything but load and servers is run as it stands, after a run that was recorded, and a check.

    But for plans: these are of a known start. What takes their time are the many starts that they look at else, as the
    tests of plans do.
    """
    if " regression " in line:
        request.getfixturevalue("checked")
    done = run_here(f"{line} --start 12:00:00" if " plan " in line and "--start" not in line else line)
    assert done.code == 0, done.out + done.err
    assert done.out.strip()


@pytest.mark.parametrize("line", RUNS)
def test_runs_end_in_a_verdict(line, tiny_run):
    """A run of the README ends with its verdict, its report, and exit code 0."""
    done, directory = tiny_run(line)
    assert done.code in (CARRIED_OUT if SEVERAL in line else (ExitCode.PASS,)), done.out + done.err
    assert done.out.startswith("Load goes to http://127.0.0.1:")
    assert ("Pass: " if done.code == ExitCode.PASS else "Invalid: ") in done.out
    assert (directory / "report.html").is_file()


@pytest.mark.parametrize("line", [line for line in LOADTEST if "--host" in line])
def test_a_server_that_runs_already_can_be_loaded(line, run_here, server):
    """--host loads a server that somebody else started, and leaves it running."""
    done = run_here(f"{line.replace('http://127.0.0.1:8000', server)} {shlex.join(TINY)}")
    assert f"Load goes to {server}: loopback only" in done.out, done.err
    assert "verdict" not in done.err


@pytest.mark.parametrize("line", [line for line in LOADTEST if "loadtest serve" in line])
def test_serve_comes_up_and_stops(line, checkout):
    """`loadtest serve` says where it listens, and ends with 0 on SIGTERM."""
    process = subprocess.Popen([*shlex.split(line), "--port", "0"], cwd=checkout, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("Workflow API (reference) on http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_plain_locust_runs_and_records(checkout, server, recorded):
    """The README's plain `locust` line loads what LOADTEST_SCENARIO names, and records it like any other run."""
    line = next(line for _, line in ALL if "bin/locust" in line)
    effective = (ROOT / "scenarios" / "smoke.toml").read_text()
    tiny = checkout / "tiny.toml"
    tiny.write_text(re.sub(r'duration = "\d+s"', 'duration = "1s"', effective))
    line = line.partition(" ")[2] + f" --host {server}"
    done = until_valid(lambda: run(line, checkout, LOADTEST_SCENARIO=str(tiny)))
    # A second of the smoke test is too short for a percentile: the verdict says so, and is the exit code.
    assert done.code == ExitCode.INCONCLUSIVE, done.err
    assert "Inconclusive" in done.out


def test_the_scenario_and_the_user_classes_shown_work(checkout, run_here):
    """Each scenario is right as it is shown. What the README's offers, the example of a user class and the one that
    moved over run beside each other, in one.
    """
    text = re.search(r"^```toml\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    document = (ROOT / "docs" / "user-classes.md").read_text()
    shown = re.findall(r"^```(?:python|toml)\n# scenarios/(\S+)\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in shown] == ["patient.py", "patient.toml", "moved.py", "moved.toml"]
    for name, content in (("shown.toml", text), *shown):
        (checkout / name).write_text(content)
    done = run_here(".venv/bin/loadtest validate shown.toml moved.toml")
    assert done.code == 0, done.err
    with (checkout / "patient.toml").open("a") as together:
        for content in (text.replace("greetings", "shown"), (checkout / "moved.toml").read_text()):
            together.write(content[content.index("[traffic") :])
    short = ("traffic.shown.stages.within.duration=1s", "traffic.shown.stages.within.rate=10/s")
    line = f".venv/bin/loadtest run patient.toml --set {' --set '.join(short)}"
    done = until_valid(lambda: run_here(line))
    assert done.code == 0, done.out + done.err
    assert re.search(r"^greetings +steady +20 +20 ", done.out, re.MULTILINE)
    assert re.search(r"^shown +within +10 +10 ", done.out, re.MULTILINE)


@pytest.mark.usefixtures("latest")
def test_the_notebook_line_gives_a_data_frame(checkout, monkeypatch):
    """`loadtest.analysis.operations` gives a DataFrame in one line, as the README shows."""
    code = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    monkeypatch.chdir(checkout)
    names = {}
    exec(code, names)
    assert type(names["df"]).__name__ == "DataFrame"
    assert len(names["df"]) > 0


def test_every_path_that_is_linked_exists():
    """Links and pictures of the documents lead to files of this repository."""
    for document in DOCUMENTS:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
