"""``loadtest capacity``: one search against the embedded API, and what it says where there is nothing to search."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.peers import Peer, resets
from plugins.processes import Fixture
from plugins.served import KEYS
from plugins.stubs import Answer, Stub
from plugins.verbs import Said, until_valid

from loadtest.capacity.results import Constraint, load
from loadtest.contract import LimitName
from loadtest.errors import ExitCode

Verb = Callable[..., Said]
ENVIRONMENT = {"WORKFLOW_API_KEYS": KEYS[0], "WORKFLOW_ENDPOINT": "tests"}
SCENARIO = """
title = "How many runs get through?"
drain = "1s"
[target]
enforce = { sync_run = "200/2s" }
[traffic.runs]
operation = "sync_run"
workflow = "echo"
stages = [{ name = "ramp", rate = "1/s", ramp_to = "20/s", duration = "30s" },
          { name = "steady", rate = "95/s", duration = "1s" }]
[[threshold]]
traffic = "runs"
stage = "steady"
require = "requests.throttled == 0"
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    """A scenario whose runs meet a limit a little above its rate, in windows of 2 s: two levels find it."""
    (tmp_path / "mine.toml").write_text(SCENARIO)
    return str(tmp_path / "mine.toml")


@pytest.mark.heavy
@pytest.mark.timeout(600)  # two searches and a probe
@pytest.mark.judged
def test_a_limit_is_named_with_the_range_of_rates_that_contains_it(
    loadtest: Verb, serve: Fixture, scenario: str, tmp_path: Path
) -> None:
    """100 a second, in runs of two whole windows with fresh seeds; a line for each, and the answer last and once."""
    done = until_valid(lambda: loadtest("capacity", scenario, "--output-dir", str(tmp_path / "out")))
    assert done.code == 0, done.out + done.err
    assert "Expected limits: sync_run at 5," in done.out
    directory = max((tmp_path / "out").iterdir())
    found = load(directory)
    assert done.out.rstrip().endswith(found.sentence)
    assert done.out.count(found.sentence) == 1
    assert (found.constraint, found.limit) == (Constraint.LIMIT, LimitName.SYNC_RUN)
    assert found.low is not None
    assert found.high is not None
    assert found.low * 0.98 <= 100 / 95 <= found.high * 1.02
    assert done.out.count(" times the rate: ") == len(found.levels)
    # A busy machine may add invalid runs.
    assert {"holds", "breaks"} <= {each.outcome for each in found.levels}
    seeds = set()
    for each in found.levels:
        run = json.loads((directory / each.directory / "metrics.json").read_text())
        assert list(run["traffic"]["runs"]["stages"]) == ["steady"]
        assert each.stage_s == 4
        seeds.add(json.loads((directory / each.directory / "run.json").read_text())["seed"])
    assert len(seeds) == len(found.levels)
    for page in ("capacity.html", "capacity.md"):
        text = (directory / page).read_text()
        assert "sync_run limit" in text.replace("\\_", "_")
        assert "levels/01" in text
        assert "levels/02" in text

    a_wrong_limit_is_probed_as_printed(loadtest, serve, scenario, tmp_path)


def a_wrong_limit_is_probed_as_printed(loadtest: Verb, serve: Fixture, scenario: str, folder: Path) -> None:
    """Where 429s begin far below the documented limit, the printed probe of it runs as it stands."""
    url = serve("--limit", "sync_run=20/0.4s", WORKFLOW_API_KEYS=KEYS[0]).url
    entry = f'url = "{url}"\nenvironment = "test"\nowner = "o"\nmax_share = "100%"\n'
    (folder / "targets.toml").write_text(f'[mine]\n{entry}limits = {{ sync_run = "120/1s" }}\n')
    given = ("--target", "mine", "--targets", str(folder / "targets.toml"))
    slower = 'traffic.runs.stages.steady.rate="40/s"'  # the first level holds, the second breaks
    done = loadtest("capacity", scenario, *given, "--set", slower, "--max-runs", "3", **ENVIRONMENT)
    (command,) = re.findall(r"loadtest (probe [^`]+)`", done.out)
    probed = loadtest(*shlex.split(command), "--json", **ENVIRONMENT)
    assert probed.code in {ExitCode.PASS, ExitCode.INCONCLUSIVE}, probed.out + probed.err
    assert [(each["limit"], each["documented"]) for each in json.loads(probed.out)] == [("sync_run", [120, 1.0])]


def test_a_plan_sends_nothing(loadtest: Verb, scenario: str, tmp_path: Path) -> None:
    """It prints the expected limits and the cost, and makes no run."""
    done = loadtest("capacity", scenario, "--plan", "--output-dir", str(tmp_path / "out"))
    assert done.code == 0
    assert "The first run offers" in done.out
    assert not (tmp_path / "out").exists()


def test_a_budget_bounds_the_search(loadtest: Verb, scenario: str, tmp_path: Path) -> None:
    """Half of 100 a second may be used, with what the preflight sends: about half of the scenario's 95."""
    entry = 'url = "http://127.0.0.1:9"\nenvironment = "test"\nowner = "o"\nmax_share = "50%"\n'
    (tmp_path / "targets.toml").write_text(f'[mine]\n{entry}limits = {{ sync_run = "200/2s" }}\n')
    done = loadtest(
        "capacity", scenario, "--plan", "--target", "mine", "--targets", str(tmp_path / "targets.toml"), **ENVIRONMENT
    )
    assert done.code == 0, done.err
    assert "at 0.519 times the scenario's rates" in done.out


def test_a_threshold_that_needs_another_stage_is_left_out(loadtest: Verb, scenario: str) -> None:
    """A threshold relative to a missing stage is not an error; the other thresholds are judged."""
    with Path(scenario).open("a", encoding="utf-8") as file:
        relative = "response_time.p50 < 2x stage ramp"
        file.write(f'[[threshold]]\ntraffic = "runs"\nstage = "steady"\nrequire = "{relative}"\n')
    done = loadtest("capacity", scenario, "--plan")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("plan", [(), ("--plan",)], ids=["search", "plan"])
def test_a_first_run_that_would_send_too_much_is_an_error(
    loadtest: Verb, scenario: str, tmp_path: Path, plan: tuple[str, ...]
) -> None:
    """380 runs of the first level are more than 10: exit code 2 with the remedy, and no directory."""
    done = loadtest("capacity", scenario, "--max-requests", "10", "--output-dir", str(tmp_path / "out"), *plan)
    assert (done.code, done.out) == (2, "")
    assert "Give --max-requests 380 or more" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stage", "words"),
    [("other", "there is no stage 'other'"), ("ramp", "traffic.runs.stages.ramp has no constant rate")],
)
def test_a_stage_that_cannot_be_judged_is_named(loadtest: Verb, scenario: str, stage: str, words: str) -> None:
    """Exit code 2, and what to write."""
    done = loadtest("capacity", scenario, "--stage", stage)
    assert done.code == 2
    assert words in done.err


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b"<html>Welcome</html>"), "Workflow API"),
        ((401, {"error": "No such key", "code": "invalid_api_key"}), "401"),
    ],
    ids=["another server", "wrong key"],
)
def test_what_is_not_the_api_is_not_loaded(
    loadtest: Verb, scenario: str, stub: Callable[..., Stub], answer: Answer, words: str
) -> None:
    """Exit code 5 after a few requests of the preflight, and no traceback."""
    server = stub(lambda *_: answer)
    done = loadtest("capacity", scenario, "--host", server.url, **ENVIRONMENT)
    assert done.code == 5
    assert words in done.err
    assert "Traceback" not in done.err
    assert len(server.asked) < 10


def test_a_dead_host_is_named(loadtest: Verb, scenario: str) -> None:
    """Nothing listens on port 9 of the loopback."""
    done = loadtest("capacity", scenario, "--host", "http://127.0.0.1:9", **ENVIRONMENT)
    assert done.code == 5
    assert "127.0.0.1:9" in done.err


def test_a_host_that_resets_is_named(loadtest: Verb, scenario: str, peer: Callable[..., Peer]) -> None:
    """The preflight meets it: exit code 5, and nothing is loaded."""
    resetting = peer(resets)
    done = loadtest("capacity", scenario, "--host", f"http://127.0.0.1:{resetting.port}", **ENVIRONMENT)
    assert done.code == 5
    assert "the connection was reset" in done.err
    assert "Traceback" not in done.err
    assert len(resetting.requests) < 10
