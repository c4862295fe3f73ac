"""The progress of a load: a line for each traffic entry in a log, a bar and a table on a terminal."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from loadtest.errors import ExitCode
from loadtest.record.generator_limits import bottleneck
from loadtest.record.progress import BlockBegins, EntryProgress, Phase, Progress, encode_progress
from loadtest.record.run_info import CpuSample
from loadtest.runs import run as runs
from loadtest.terminal import ProgressDisplay


def entry(**changed: Any) -> EntryProgress:
    known: dict[str, Any] = {
        "stage": "within", "offered": 1200, "in_flight": 3, "ok": 1190, "throttled": 7, "failed": 0, "timed_out": 0,
        "p95_ms": 1234.4,
    }  # fmt: skip
    return EntryProgress(**{**known, **changed})


def progress(
    elapsed: float = 20.0, phase: Phase = "running", total: float = 45.0, **entries: EntryProgress
) -> Progress:
    return Progress(phase=phase, elapsed_s=elapsed, total_s=total, entries=entries or {"greetings": entry()})


def test_all_traffic_has_one_line_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts of all entries and the longest p95; counts that are mostly 0 stand there only where they are not."""
    with ProgressDisplay() as display:
        display.show(progress(phase="preparing"))
        display.show(
            progress(greetings=entry(), jobs=entry(stage="above", ok=0, throttled=0, timed_out=4, p95_ms=None))
        )
        display.show(progress(46.0, phase="draining"))
    assert capsys.readouterr().out.splitlines() == [
        "preparing …",
        "   20 s of 45 s  within + above  offered 2,400  ok 1,190  429 7  timed out 4  p95 1,234 ms (greetings)",
        "   45 s of 45 s  draining  offered 1,200  ok 1,190  429 7  p95 1,234 ms",
    ]


@pytest.mark.parametrize(("total", "lines"), [(45.0, 3), (4000.0, 21)])
def test_a_log_stays_short(total: float, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A line each twenty seconds, and about twenty of a long run."""
    with ProgressDisplay() as display:
        for half in range(int(total * 2) + 1):
            display.show(progress(half / 2, total=total))
    assert len([line for line in capsys.readouterr().out.splitlines() if "offered" in line]) == lines


def test_a_generator_that_cannot_keep_up_says_so_once_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Late arrivals mean that it cannot keep up, CPU alone that it is near its limit; each names more processes."""
    cpu = [CpuSample(t_s=t, percent=97.0, worker=worker) for t in range(1, 4) for worker in (1, 2)]
    calm = [CpuSample(t_s=t, percent=50.0, worker=worker) for t in range(1, 4) for worker in (0, 1, 2)]
    assert bottleneck(cpu[:4], late=False) == bottleneck(calm, late=False) == bottleneck([], late=False) == ""
    assert "left more than 50 ms late for 3 s" in bottleneck(calm, late=True)
    assert "--processes 3" in bottleneck(calm, late=True), "the master sends nothing"
    busy, behind = bottleneck(cpu, late=False), bottleneck(cpu, late=True)
    assert "above 90 % CPU for 3 s" in busy
    assert "--processes 3" in busy
    assert ("cannot keep up" in busy, "cannot keep up" in behind) == (False, True)
    with ProgressDisplay() as display:
        for elapsed, why in ((3.0, busy), (3.5, behind), (4.0, busy), (4.5, behind)):
            display.show(msgspec.structs.replace(progress(elapsed), bottleneck=why))
    printed = capsys.readouterr().out
    assert (printed.count(busy), printed.count(behind)) == (1, 1)


def test_blocks_of_a_comparison_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """The figures within a block are for a terminal only."""
    with ProgressDisplay(20.0) as display:
        display.show(BlockBegins(number=1, blocks=6, side="base", series=1, silence_s=0))
        display.show(progress())
    assert capsys.readouterr().out == "block 1 of 6 (base), about 2 min left\n"


def test_a_terminal_shows_a_bar_the_time_left_and_a_table() -> None:
    """The time left is of the schedule; what follows it drains."""
    file = io.StringIO()
    with ProgressDisplay(terminal=Console(file=file, force_terminal=True, width=100, no_color=True)) as display:
        display.show(progress(36.0))
        running = file.getvalue()
        display.show(progress(45.0, phase="draining"))
    assert "80%  within, 9 s left" in running
    assert "━" in running
    assert all(label in running for label in ("traffic", "offered", "429", "timed out", "p95: response time"))
    assert "1,234 ms" in running
    assert "100%  draining …" in file.getvalue()


def test_a_line_that_was_cut_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a slow reader, a load cuts long lines; later lines are shown as before."""
    whole = encode_progress(progress())
    code = f"import sys; sys.stdout.buffer.write({whole[:40]!r} + b'\\n' + {whole!r} + b'\\n')"

    def start(*_: object, **__: object) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(runs, "start_child", start)
    seen: list[Any] = []
    assert runs.make_load(tmp_path, tmp_path, {}, seen.append) == 0
    assert seen == [progress()]


def test_a_load_that_ctrl_c_kills_was_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It may come before the load is ready to end early."""
    kills = "import sys, signal; signal.signal(signal.SIGINT, signal.SIG_DFL)"  # at once, whatever it is about to do
    code = f"{kills}; sys.stdout.buffer.write({encode_progress(progress())!r} + b'\\n'); sys.stdout.flush()"

    def start(*_: object, **__: object) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", f"{code}; signal.pause()"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    monkeypatch.setattr(runs, "start_child", start)
    shown = runs.make_load(tmp_path, tmp_path, {}, lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert shown == ExitCode.INTERRUPTED
