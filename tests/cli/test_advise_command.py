"""``loadtest advise``: its answer, its files, and what it says of bad input."""

from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.verbs import Said

from loadtest.advice.results import load
from loadtest.contract import LimitName
from loadtest.limits.probing.results import PROBE_FILE, LimitFinding, ProbeResult, Standing
from loadtest.record import run_directory
from loadtest.scenario import load_scenario

Verb = Callable[..., Said]
SCENARIO = """
title = "Jobs"
[target]
algorithm = "sliding-log"
enforce = { async_submit = "20/2s", retrieval = "20/2s" }
[traffic.jobs]
operation = "async_run"
workflow = "sleep"
parameters = { ms = 300 }
polling = { interval = "100ms", give_up = "5s" }
stages = [{ name = "steady", rate = "5/s", duration = "3s" }]
"""


def test_advice_on_a_scenario(loadtest: Verb, tmp_path: Path) -> None:
    """It simulates the scenario's limiter and policy, and writes a scenario that runs as it stands."""
    (tmp_path / "mine.toml").write_text(SCENARIO)
    said = loadtest("advise", "mine.toml", "--jobs", "60")
    assert said.code == 0, said.err
    (directory,) = (tmp_path / "reports").glob("*-advice-*")
    found = load(directory)
    assert found.sentence in said.out.replace("\n", " ")
    assert found.limits == dict.fromkeys((LimitName.ASYNC_SUBMIT, LimitName.RETRIEVAL), ("a sliding log, 20 per 2 s",))
    assert [each.name for each in found.policies[:2]] == ["paced", "present"]
    assert found.best.rejected == 0
    assert found.best.seconds == pytest.approx(4.3, abs=0.1)
    assert found.confirmation is not None
    confirming = load_scenario(directory / found.confirmation.file).scenario
    assert set(confirming.traffic) == {"present", "advised"}
    recording = confirming.traffic["advised"].recording
    assert recording is not None
    assert (len(recording.offsets_s), recording.most_within(2.0)) == (60, 19)
    assert found.confirmation.options == {}
    assert found.sentence in (directory / "advice.html").read_text()


def test_what_the_page_says_without_a_scenario(loadtest: Verb, tmp_path: Path) -> None:
    """The documented limits hold under any algorithm; a missed deadline is exit code 1."""
    said = loadtest("advise", "--runs", "150", "--execution", "1s", "--deadline", "30s")
    assert said.code == 1, said.err
    (directory,) = (tmp_path / "reports").glob("*-advice-*")
    found = load(directory)
    assert len(found.limits[LimitName.SYNC_RUN]) > 5
    assert found.confirmation is None
    assert "no client meets the deadline of 30 s" in said.out


def test_advice_from_a_probe(loadtest: Verb, tmp_path: Path) -> None:
    """Every limiter that the probe left is simulated, with its strictest numbers."""
    standing = [
        Standing(algorithm="gcra", count_rejected=False, count=(9, 10), window_s=(1, 1), burst=(3, 4)),
        Standing(algorithm="sliding-log", count_rejected=False, count=(9, 10), window_s=(1, 1.2)),
    ]
    finding = LimitFinding(
        limit=LimitName.SYNC_RUN, documented=(10, 1.0), verdict="can't tell", standing=standing,
        requests=1, rejected=0, seconds=1, shared={"other limit": True}, waits=False,
    )  # fmt: skip
    run_directory.write_json(tmp_path / PROBE_FILE, ProbeResult(target="http://here", findings=[finding]))
    (tmp_path / "mine.toml").write_text(SCENARIO.replace("async_run", "sync_run").replace("polling", "# polling"))
    options = ["--from", PROBE_FILE, "--runs", "40", "--execution", "100ms", "--client", "client.py"]
    said = loadtest("advise", "mine.toml", *options)
    assert "confirm.toml --host http://here" in said.out
    assert said.code == 0, said.err
    (directory,) = (tmp_path / "reports").glob("*-advice-*")
    found = load(directory)
    assert found.limits[LimitName.SYNC_RUN] == ("a GCRA of 3 at once, 9 per second", "a sliding log, 9 per 1.2 s")
    assert found.best.rejected == 0
    client = (tmp_path / "client.py").read_text()
    assert '"sync_run": (8, 1.2, 2, 0.111' in client
    assert "SHARED = True" in client
    assert "//here" not in client


def test_advice_from_a_log(loadtest: Verb, tmp_path: Path) -> None:
    """The log's 429s and duration are stated as recorded; its time is not compared with that of other work."""
    requests = [(1_764_000_000 + number * 0.1, 200 if number < 100 else 429) for number in range(130)]
    lines = [
        f'{{"msec":"{at:.3f}","request":"POST /v1/workflows/run HTTP/1.1","status":"{status}","request_time":"0.020"}}'
        for at, status in requests
    ]
    (tmp_path / "access.log").write_text("\n".join(lines))
    assert loadtest("import", "access.log").code == 0
    said = loadtest("advise", "--from", "latest", "--runs", "130", "--execution", "1s")
    assert said.code == 0, said.err
    (directory,) = (tmp_path / "reports").glob("*-advice-*")
    best, recorded = load(directory).policies[:2]
    assert recorded.name == "present"
    assert recorded.rejected_per_1000 == pytest.approx(1000 * 30 / 130, rel=0.05)
    assert (recorded.done, recorded.seconds) == (None, None)
    assert (
        f"In the log your clients got 429 on {recorded.rejected} of {recorded.requests} requests"
        in load(directory).sentence
    )
    assert best.rejected == 0
    said = loadtest("advise", "--from", str(next((tmp_path / "reports").glob("*-imported-*"))), "--jobs", "10")
    assert "In the log" not in said.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--jobs", "5", "--runs", "5"], "--jobs 5000"),
        ([], "--jobs 5000"),
        (["--rate", "80% of limit"], "12/s"),
        (["--jobs", "5", "--from", "nowhere"], "'nowhere' is not a run"),
        (["--jobs", "5", "--target", "nowhere"], "there is no targets.toml"),
        (["--jobs", "5", "--target", "nowhere", "--from", "latest"], "--from and --target"),
        (["--jobs", "5", "--client", "nowhere/client.py"], "there is no folder for nowhere/client.py"),
        (["--rate", "20000/s"], "200,000"),
        (["--rate", "2/s", "--deadline", "3m"], "--deadline does not apply"),
    ],
)
def test_bad_input(loadtest: Verb, options: list[str], words: str) -> None:
    """It is named with a remedy, and nothing is simulated."""
    said = loadtest("advise", *options)
    assert said.code == 2
    assert words in said.err
    assert "Traceback" not in said.err
