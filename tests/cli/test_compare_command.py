"""``loadtest compare``: one real comparison, how early ends are judged, and what is refused before anything is sent."""

import math
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins import regression_parts
from plugins.processes import Fixture, clean_environment, until
from plugins.records import RunDirectory, runs_in

from loadtest.compare.measurements import Measurement, Metric, RunMeasurements
from loadtest.compare.paired import LOOKS, block_order
from loadtest.compare.results import RunComparison
from loadtest.errors import ExitCode
from loadtest.record import blocks
from loadtest.runs.comparison import SeriesEnd, judge, larger_command, make_until_decided
from loadtest.runs.sides import SideOptions, pace_of, plan_sides
from loadtest.scenario import load_scenario

SCENARIO = """
title = "Is the new version slower?"
seed = 5
drain = "3s"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
parameters = { name = "Ada" }
arrivals = "poisson"
stages = [{ name = "first", rate = "40/s", duration = "6s" }, { name = "then", rate = "60/s", duration = "4s" }]
[target]
enforce = { sync_run = "100000/1s", async_submit = "100000/1s", retrieval = "100000/1s" }
"""
OF_LIMIT = "traffic.greetings.stages.first.rate=50% of limit"
SLOWER = 'target.fault=[{ kind = "slow-execution", ms = 60 }]'


@dataclass(frozen=True)
class Compared:
    """A comparison that was made, and what it printed."""

    directory: Path
    code: int
    said: str

    @property
    def comparison(self) -> RunComparison:
        """The saved comparison."""
        return msgspec.json.decode((self.directory / "comparison.json").read_bytes(), type=RunComparison)

    @property
    def blocks(self) -> list[tuple[blocks.Block, RunDirectory]]:
        """Its blocks in order, each a run directory."""
        return [(block, RunDirectory(self.directory / block.directory)) for block in blocks.load(self.directory).blocks]


@pytest.fixture
def slower(tmp_path: Path) -> Compared:
    """Two embedded APIs, of which the head takes 60 ms longer."""
    folder = tmp_path
    (folder / "s.toml").write_text(SCENARIO)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "loadtest.cli", "compare", "s.toml", "--pairs", "4", "--block", "400ms"),
            *("--head-set", SLOWER, "--head-version", "v2"),
        ],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    (directory,) = (folder / "reports").iterdir()
    return Compared(directory, done.returncode, done.stdout)


def offered_the_same_in_mirrored_order(slower: Compared) -> None:
    """Pairs alternate as the recorded seed says; every block has the same arrivals, each side at its own server."""
    plan = blocks.load(slower.directory)
    ((number, seed),) = enumerate(plan.seeds, 1)
    assert [block.side for block in plan.of(number)] == list(block_order(seed, 5))
    offered, urls = set(), set()
    for block, run in slower.blocks:
        outcomes = run.check_conservation()
        assert set(outcomes) == {"ok"}
        offered.add(tuple(sorted((row["arrival"], row["stage"], row["intended_start"]) for row in run.operations)))
        urls.add((block.side, run.info.target.url))
        assert run.info.id == f"{slower.directory.name}/{block.directory}"
        assert [fault.text for fault in run.info.target.faults] == (
            ["slow-execution,ms=60"] if block.side == "head" else []
        )
    assert len(offered) == 1
    assert len(urls) == 2
    starts = [run.epoch for _, run in slower.blocks]
    assert starts == sorted(starts)


def scaled_and_no_runs_of_their_own(slower: Compared) -> None:
    """Stages shrink in proportion, rates stay; `latest` and the list of runs know nothing of blocks."""
    info = slower.blocks[0][1].info
    stages = {stage.name: (stage.start_s, stage.duration_s, stage.rate) for stage in info.traffic["greetings"].stages}
    assert stages["first"] == (0, pytest.approx(0.24), 40)
    assert stages["then"] == (pytest.approx(0.24), pytest.approx(0.16), 60)
    assert not (slower.directory.parent / "latest").exists()
    lines = slower.said.splitlines()
    assert lines[1].startswith("At most 10 blocks of 0.4 s in 4 s: 4 to 4 pairs, after a discarded first pair")
    assert "1 of 10" in slower.said


@pytest.mark.heavy
@pytest.mark.judged
def test_a_slower_head_is_found(slower: Compared) -> None:
    """A slow-down of 60 ms is found after four pairs; the exit code is the verdict, the page is there."""
    offered_the_same_in_mirrored_order(slower)
    scaled_and_no_runs_of_their_own(slower)
    found = slower.comparison
    if found.word == "invalid":
        assert slower.code == ExitCode.INVALID
        pytest.skip(f"this machine is too busy for valid blocks: {found.sentence}")
    # The environment may have changed as well; then there is no verdict on the head.
    assert (found.word, found.exit_code) in {("regressed", 4), ("inconclusive", 6)}
    assert slower.code == found.exit_code
    assert found.findings[0].sentence.startswith("greetings")
    assert Metric.RESPONSE_TIME_P50 in {one.metric for one in found.metrics if one.verdict == "regressed"}
    assert found.head.startswith(f"embedded API, {SLOWER}, v2")
    assert (slower.directory / "comparison.html").is_file()
    runs_again_as_printed(slower)


def runs_again_as_printed(slower: Compared) -> None:
    """The command for more pairs has the scenario, block and sides; it ends once the slow-down is found."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.cli", *shlex.split(slower.comparison.command)[1:]],
        cwd=slower.directory.parent.parent,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {slower.code, ExitCode.INVALID, ExitCode.INCONCLUSIVE}, done.stdout + done.stderr
    assert "At most 18 blocks of 0.4 s" in done.stdout
    assert f"head: embedded API, {SLOWER}, v2" in done.stdout


@pytest.mark.heavy
def test_an_interrupted_comparison_keeps_what_it_has(launch: Fixture, tmp_path: Path) -> None:
    """Ctrl-C closes the record under way, forgets blocks that never began, says so, and ends with 130."""
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO)
    out = tmp_path / "out"
    run = launch("loadtest.cli", "compare", str(path), "--pairs", "4", "--output-dir", str(out), "--no-plots")
    until(lambda: "block 1 of 10" in run.said)
    (directory,) = out.iterdir()
    until(lambda: any(one.epoch for one in runs_in(directory / "blocks")))
    family = run.family()
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == ExitCode.INTERRUPTED
    compared = Compared(directory, ExitCode.INTERRUPTED, run.said)
    ((block, begun),) = compared.blocks
    assert [path.name for path in (directory / "blocks").iterdir()] == [Path(block.directory).name]
    begun.check_conservation()
    assert begun.info.end == "interrupted"
    assert (compared.comparison.word, compared.comparison.exit_code) == ("invalid", 130)
    assert "Stopped after 0 of 4 pairs: interrupted." in run.said
    assert "Traceback" not in run.said + run.complained
    until(lambda: not [process for process in family if process.is_running()])


def measured(number: int, p50: float) -> RunMeasurements:
    """A block with one time."""
    metric = Metric.EXECUTION_TIME_P50
    one = Measurement(traffic="t", stage="s", metric=metric, value=p50, score=math.log(p50), n=500, se=0.005)
    return regression_parts.run([one], run=f"blocks/{number}", controls=regression_parts.controls())


def pairs(count: int, head_ms: float) -> list[tuple[RunMeasurements, RunMeasurements]]:
    """So many pairs, base at 100 ms."""
    return [(measured(2 * k, 100 + 0.3 * (k % 3)), measured(2 * k + 1, head_ms)) for k in range(count)]


@pytest.fixture
def loaded(tmp_path: Path) -> Any:
    """The scenario."""
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO)
    return load_scenario(path)


@pytest.mark.parametrize(
    ("done", "code", "word"),
    [
        (0, ExitCode.INTERRUPTED, "invalid"),
        (4, ExitCode.INTERRUPTED, "invalid"),
        (5, ExitCode.INTERRUPTED, "regressed"),
        (5, ExitCode.ABORTED, "regressed"),
        (5, ExitCode.TARGET, "invalid"),
    ],
)
def test_an_early_end_is_judged_as_far_as_its_pairs_carry(loaded: Any, done: int, code: ExitCode, word: str) -> None:
    """Too few pairs, or a lost side, give no verdict; the reason comes first and sets the exit code."""
    found = judge(SeriesEnd(pairs(done, 150.0), code, "the reason"), 6, loaded)
    assert (found.word, found.exit_code) == (word, code)
    assert found.sentence.startswith(f"Stopped after {max(0, done - 1)} of 6 pairs: the reason.")
    assert ("executionTime p50 +49.7" in found.sentence) == (word == "regressed")


@pytest.mark.parametrize(
    ("head_ms", "invalid", "most", "made_and_word"),
    [
        (150.0, (), 12, ([5], "regressed")),
        (100.0, (), 12, ([5], "pass")),
        (150.0, (2, 3), 12, ([5, 2], "regressed")),
        (150.0, (2,), 5, ([5, 1], "regressed")),
        (150.0, (2, 3), 4, ([5], "invalid")),
    ],
)
def test_pairs_are_made_until_a_look_decides(
    loaded: Any, head_ms: float, invalid: tuple[int, ...], most: int, made_and_word: tuple[list[int], str]
) -> None:
    """The first look has four pairs after the discarded one; an invalid pair is replaced while pairs are left."""
    asked: list[int] = []

    def make(count: int) -> SeriesEnd:
        done = sum(asked)
        asked.append(count)
        found = [
            (base, msgspec.structs.replace(head, valid=at not in invalid))
            for at, (base, head) in enumerate(pairs(done + count, head_ms))
        ]
        return SeriesEnd(found[done:], ExitCode.PASS, "")

    found = make_until_decided(make, most, loaded)
    assert (asked, found.word) == made_and_word
    assert sum(asked) <= most + 1


def test_a_comparison_that_nothing_decides_takes_every_look(loaded: Any) -> None:
    """Blocks that vary by 30 % exclude no change of 10 %."""
    asked: list[int] = []

    def make(count: int) -> SeriesEnd:
        asked.append(count)
        noise = [1.3 if (sum(asked) + at) % 4 < 2 else 0.77 for at in range(count)]
        return SeriesEnd([(measured(0, 100.0), measured(1, 100.0 * each)) for each in noise], ExitCode.PASS, "")

    found = make_until_decided(make, 12, loaded)
    assert (found.word, found.exit_code) == ("inconclusive", ExitCode.INCONCLUSIVE)
    assert asked == [5, 2, 2, 2, 2]
    assert sum(asked) - 1 == LOOKS[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base", "http://127.0.0.1:9"], "--base is a running target, but the other side is missing"),
        (
            ["--base", "http://127.0.0.1:9", "--head", "http://127.0.0.1:10", "--head-set", "target.keys=2"],
            "--head-set target.keys=2: http://127.0.0.1:10 is a running target",
        ),
        (["--head-set", "seed=2"], "--head-set seed=2: only keys of [target] may differ"),
        (["--head-set", "target.keys=2"], "the base side has 1 API keys and the head side 2"),
        (["--head-set", "target.kezs=2"], "did you mean 'keys'?"),
        (["--block", "soon"], "--block: 'soon' is not a duration"),
        (["--block", "10ms"], "traffic.greetings.stages.first would last 0.006 s of 0.01 s"),
        (["--block", "0s"], "--block 0s: must be above zero"),
        (
            ["--set", OF_LIMIT, "--head-set", 'target.enforce.sync_run="50/1s"'],
            "traffic.greetings.stages.first is 50000/s for the base side, and 25/s for the head side",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(loadtest: Fixture, tmp_path: Path, arguments: list[str], said: str) -> None:
    """One clear sentence, exit code 2, and nothing made."""
    (tmp_path / "s.toml").write_text(SCENARIO)
    ended = loadtest("compare", "s.toml", *arguments)
    assert ended.code == ExitCode.USAGE
    assert said in ended.err
    assert not (tmp_path / "reports").exists()


@pytest.fixture
def offered(tmp_path: Path, free_port: int) -> Callable[[str], None]:
    """Write a scenario of 500 requests, and two entries of unused ports with this budget."""

    def write(allowed: str) -> None:
        text = SCENARIO.replace('arrivals = "poisson"', "").replace('warmup = "200ms"', "")
        (tmp_path / "s.toml").write_text(text.replace('"6s"', '"8s"').replace('"4s"', '"3s"'))
        about = f'environment = "test"\nowner = "team-x"\nmax_share = 1\n{allowed}\n'
        about += 'limits = { sync_run = "100000/1s", retrieval = "100000/1s" }\n'
        entries = {"old": f"http://127.0.0.1:{free_port}", "new": f"http://localhost:{free_port}"}
        (tmp_path / "targets.toml").write_text(
            "".join(f'[{name}]\nurl = "{url}"\n{about}' for name, url in entries.items())
        )

    return write


@pytest.mark.parametrize(
    ("allowed", "more", "said"),
    [
        ("max_requests = 6000", (), "at least 6,502 are planned"),
        ("max_requests = 6000", ("--pairs", "10"), ""),
        ("max_operations = 3000", ("--pairs", "6"), "3,500 are planned, for at most 7 blocks against this target"),
    ],
)
def test_the_budget_is_that_of_all_blocks_of_a_side(loadtest, offered, allowed, more, said):
    """All blocks of a side, if all pairs are needed, must fit into its entry before the first request."""
    offered(allowed)
    ended = loadtest("compare", "s.toml", "--base", "old", "--head", "new", *more)
    assert said in ended.err
    # The port is unused: an allowed comparison goes on to the preflight.
    assert ended.code == (ExitCode.USAGE if said else ExitCode.TARGET)
    assert not Path("reports").exists()


def test_the_command_to_compare_again_has_the_given_options(loadtest: Fixture, tmp_path: Path) -> None:
    """It can be pasted as it stands: here its plan is printed."""
    (tmp_path / "s.toml").write_text(SCENARIO)
    sides: dict[blocks.Side, SideOptions] = {
        "base": SideOptions(None, version="v 1"), "head": SideOptions(None, (SLOWER,))
    }  # fmt: skip
    offer: dict[str, Any] = {"overrides": ["seed=7"], "seed": None, "block_s": 0.4, "targets": None}
    command = larger_command("s.toml", sides, 4, 0.4, output_dir=Path("elsewhere"), fail_on_inconclusive=True, **offer)
    assert "--fail-on-inconclusive" in command
    said = loadtest(*shlex.split(command)[1:], "--plan")
    assert said.code == 0, said.err
    assert "[s, seed 7]" in said.out
    assert "At most 18 blocks of 0.4 s" in said.out
    assert f"head: embedded API, {SLOWER};" in said.out
    most = larger_command("s.toml", sides, 150, 0.4, **offer)
    assert ("--pairs 200" in most, "--block 0.4s" in most) == (True, True)
    assert "--block 0.8s" in larger_command("s.toml", sides, 200, 0.4, **offer)


@pytest.fixture
def silence(tmp_path: Path) -> Iterator[Callable[..., float]]:
    """The silence between a target's blocks, by the stage of a scenario, its limit and the algorithm."""

    def of(stage: str, limit: str, algorithm: str = "fixed-window") -> float:
        path = tmp_path / "s.toml"
        path.write_text(
            f'title = "T"\n[traffic.t]\noperation = "sync_run"\nworkflow = "echo"\n'
            f'stages = [{{ name = "s", {stage} }}]\n[target]\nenforce = {{ sync_run = "{limit}" }}\n'
            f'algorithm = "{algorithm}"\n'
        )
        options: dict[blocks.Side, SideOptions] = {"base": SideOptions(None), "head": SideOptions(None)}
        sides = plan_sides(str(path), options, overrides=(), seed=None, block_s=None, targets=None)
        pace = pace_of(sides, ("base", "head", "head", "base"))
        # Two blocks in a row against one side are those that have to wait.
        assert pace.starts_s[1] == pytest.approx(pace.block_s)
        assert pace.starts_s[2] == pytest.approx(2 * pace.block_s + pace.silence_s)
        return pace.silence_s

    return of


def test_a_limit_never_counts_two_blocks_together(silence: Callable[..., float]) -> None:
    """Blocks wait for a window where a stage exceeds its limit, or where two in a row would; else they do not wait."""
    assert silence('rate = "50/min", duration = "10s"', "100/1m") == 0
    assert silence('rate = "100/min", duration = "10s"', "100/1m") == 0
    assert silence('rate = "200/min", duration = "10s"', "100/1m") == 60
    assert silence('burst = 60, duration = "10s"', "100/1m") == 60
    assert silence('burst = 60, duration = "60s"', "100/10s") == 0
    over = 'rate = "200/min", duration = "10s"'
    assert [silence(over, "100/1m", name) for name in ("sliding-log", "sliding-counter", "concurrency")] == [60, 120, 0]
