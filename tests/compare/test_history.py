"""The history of a scenario: what its lines come to in any order, what damage gives, and that nothing is ever lost."""

import errno
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.history_parts import made_line, made_run, moment

from loadtest.compare import history, history_file
from loadtest.compare.history import DecisionLine, HistoryLine, RunLine, fold
from loadtest.compare.measurements import RunMeasurements, mismatch
from loadtest.errors import ExitCode, InputError

NAME = "regression.jsonl"


def decision(run: str, day: int, status: str = "accepted", *, new_segment: bool = False) -> DecisionLine:
    """A decision at noon of a day."""
    line = history.decision_line(run, status, f"decided on day {day}", new_segment=new_segment)  # type: ignore[arg-type]
    return msgspec.structs.replace(line, recorded=moment(day))


def days(runs: list[RunMeasurements]) -> list[int]:
    """Of which days runs are."""
    return [int(run.run[-6:], 16) for run in runs]


@pytest.fixture(name="path")
def three_runs(tmp_path: Path) -> Path:
    """A history of three runs."""
    path = tmp_path / NAME
    history_file.append(path, *(made_line(day) for day in range(3)))
    return path


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    """Every field of every line, also in a folder that is made for it; a file that is not there is an empty history."""
    path = history_file.path_for(tmp_path / "new" / "folder", "regression")
    assert path.name == NAME
    assert history_file.read(path).history.runs == ()
    lines = [made_line(0, "learning"), made_line(1, "regressed"), made_line(2, valid=False)]
    for line in lines:
        assert history_file.append(path, line) == []
    history_file.append(path, decision(lines[1].run.run, 3, new_segment=True))
    runs = history_file.read(path).history.runs
    assert [each.line for each in runs] == lines
    assert [(each.status, each.new_segment) for each in runs] == [
        ("accepted", False),
        ("accepted", True),
        ("invalid", False),
    ]
    assert history_file.path_for(path, "another") == path, "a file is itself"


@pytest.mark.parametrize(
    ("verdict", "valid", "status"),
    [
        ("pass", True, "accepted"),
        ("learning", True, "accepted"),
        ("regressed", True, "waiting"),
        ("inconclusive", True, "waiting"),
        ("not comparable", True, "waiting"),
        ("invalid", False, "invalid"),
        ("pass", False, "invalid"),
    ],
)
def test_what_a_run_is_by_itself(verdict: history.RecordedVerdict, status: str, *, valid: bool) -> None:
    """Evidence if it passed or nothing is known yet; an invalid one never; of all others somebody has to decide."""
    assert made_line(verdict=verdict, valid=valid).status == status


def test_an_invalid_run_is_never_evidence() -> None:
    """Whatever is decided about it, and whatever an editor made of its status."""
    line = msgspec.structs.replace(made_line(0, valid=False), status="accepted")
    found = fold([line, decision(line.run.run, 1)])
    assert found.runs[0].status == "invalid"
    assert found.evidence(made_run(5)) == []


def test_later_runs_are_compared_from_the_accepted_change_on() -> None:
    """Not with regressed or rejected runs; an accepted regression starts a segment, until it is rejected."""
    lines: list[HistoryLine] = [made_line(day, "regressed" if day in {3, 6} else "pass") for day in range(8)]
    run = made_run(9)
    assert days(fold(lines).evidence(run)) == [0, 1, 2, 4, 5, 7]
    lines.append(decision(made_run(3).run, 8, new_segment=True))
    assert days(fold(lines).evidence(run)) == [3, 4, 5, 7]
    lines.append(decision(made_run(4).run, 8, "rejected"))
    assert days(fold(lines).evidence(run)) == [3, 5, 7]
    lines.append(decision(made_run(3).run, 9, "rejected", new_segment=True))
    assert days(fold(lines).evidence(run)) == [0, 1, 2, 5, 7], "the last decision holds"
    assert days(fold(lines).evidence(made_run(7))) == [0, 1, 2, 5], "no run is compared with itself"


def test_only_comparable_runs_are_evidence_and_others_name_the_field() -> None:
    """Two targets may share a history; a segment of one does not cut the other's."""
    other = "https://other.example.com:443"
    lines: list[HistoryLine] = [
        made_line(day, host=other if day % 2 else "https://staging.example.com:443") for day in range(6)
    ]
    lines.append(decision(made_run(3).run, 7, new_segment=True))
    assert days(fold(lines).evidence(made_run(9))) == [0, 2, 4]
    assert days(fold(lines).evidence(made_run(9, host=other))) == [3, 5]
    assert days(fold(lines).evidence(made_run(9, host="https://third.example.com:443"))) == list(range(6))


def test_a_run_and_its_rerun_are_decided_about_together() -> None:
    """From either of the two."""
    suspect = made_line(1, "inconclusive")
    found = fold([made_line(0), suspect, made_line(2, "regressed", confirms=suspect.run.run)])
    for day in (1, 2):
        assert [each.id for each in found.with_rerun(made_run(day).run)] == [made_run(1).run, made_run(2).run]
    assert [each.id for each in found.with_rerun(made_run(0).run)] == [made_run(0).run]
    assert found.with_rerun("no such run") == []


LINES = [
    *(made_line(day, "regressed" if day == 2 else "pass") for day in range(4)),
    decision(made_run(2).run, 5, new_segment=True),
    decision(made_run(2).run, 6, "rejected"),
    decision("a run that a merge lost", 7),
]


@given(st.lists(st.sampled_from(LINES)).flatmap(lambda more: st.permutations([*LINES, *more])))
def test_a_merge_may_reorder_and_repeat_lines(lines: list[HistoryLine]) -> None:
    """The same set of lines is the same history."""
    assert fold(lines) == fold(LINES)
    assert fold(lines).orphans == ("a run that a merge lost",)


VERDICTS = st.sampled_from(["pass", "regressed", "inconclusive", "learning", "not comparable"])
LATER = st.one_of(
    st.builds(made_line, st.integers(0, 40), VERDICTS).map(
        lambda line: msgspec.structs.replace(line, recorded=moment(100), sentence="recorded again")
    ),
    st.builds(decision, st.integers(0, 40).map(lambda day: made_run(day).run), st.integers(50, 99)),
)


@given(st.lists(VERDICTS, min_size=1, max_size=6), st.lists(LATER, max_size=12))
def test_a_verdict_never_changes(verdicts: list[history.RecordedVerdict], later: list[HistoryLine]) -> None:
    """Whatever is added later: other runs, decisions, even another line of the same run."""
    lines = [made_line(day, verdict) for day, verdict in enumerate(verdicts)]
    for found in (fold([*lines, *later]), fold([*later, *lines])):
        for line in lines:
            kept = found.find(line.run.run)
            assert kept.line == line


def test_a_line_cut_off_anywhere_is_moved_away_and_nothing_else_is_lost(path: Path) -> None:
    """As a crash leaves it: at each byte. The reader says so; the next writer repairs it, and keeps what was cut."""
    whole = path.read_bytes()
    before = whole.splitlines(keepends=True)
    last = len(whole) - len(before[-1])
    damaged = path.with_name(NAME + history_file.DAMAGED)
    for size in range(last + 1, len(whole) - 1, 97):
        path.write_bytes(whole[:size])
        damaged.unlink(missing_ok=True)
        contents = history_file.read(path)
        assert len(contents.history.runs) == 2
        assert "the last line is truncated" in contents.warnings[0]
        assert path.read_bytes() == whole[:size], "a reader changes nothing"
        (message,) = history_file.append(path, made_line(7))
        assert str(damaged) in message
        assert damaged.read_bytes() == whole[last:size] + b"\n"
        assert path.read_bytes().startswith(b"".join(before[:2]))
        assert days([each.measurements for each in history_file.read(path).history.runs]) == [0, 1, 7]
    assert made_run(2).run in message, "long enough, it tells whose line it was"
    path.write_bytes(whole + bytes(4096))
    assert history_file.append(path, made_line(7)), "zeros that a power failure left"
    assert len(history_file.read(path).history.runs) == 4


@pytest.mark.parametrize("text", [b"\n", b"\r\n\r\n"])
def test_what_an_editor_does_is_no_damage(path: Path, text: bytes) -> None:
    """A last line without its newline, empty lines, other ends of lines."""
    path.write_bytes(path.read_bytes().rstrip(b"\n").replace(b"\n", text))
    assert len(history_file.read(path).history.runs) == 3
    assert history_file.append(path, made_line(3)) == []
    assert len(history_file.read(path).history.runs) == 4


def without_checksum(text: bytes) -> bytes:
    """Lines as somebody may write them by hand."""
    return re.sub(rb',"crc":"[0-9a-f]{8}"}', b"}", text)


def _replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda line: without_checksum(line).replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda line: line[: len(line) // 2], "line 2 is damaged"),
        (lambda line: line[:9] + b"\0\0\0" + line[12:], "line 2 is damaged"),
        (lambda line: b"\xff\xfe" + line, "line 2 is damaged"),
        (lambda line: line + line, "line 2 is damaged"),
        (lambda _: b"[1, 2]", "line 2 is damaged"),
        (lambda _: b"[" * 100_000, "line 2 is damaged"),
        (lambda _: b"<<<<<<< HEAD", "line 2 is a marker of an unresolved merge"),
        (lambda _: b"=======", "line 2 is a marker of an unresolved merge"),
        (_replaced(b'"verdict":"pass"', b'"verdict":"fine"'), "line 2 is damaged"),
        (_replaced(b'"line":"run"', b'"line":"walk"'), "line 2 is damaged"),
        (_replaced(b'"started":"2025', b'"started":"soon'), "line 2 is damaged"),
        (_replaced(b'"recorded":"2025', b'"recorded":"once'), "line 2 is damaged"),
        (_replaced(b'"response_time.p50"', b'"response_time.p7"'), "line 2 is damaged"),
        (_replaced(b'"schema":1', b'"schema":2'), "line 2 was written by a newer loadtest"),
        (_replaced(b'"run":{"schema":1', b'"run":{"schema":9'), "line 2 was written by a newer loadtest"),
        (_replaced(b'"schema":1', b'"schema":1,"more":true'), ""),
        (lambda line: line.replace(b'"schema":1', b'"schema":2'), "line 2 is damaged: its checksum does not match"),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_written(path, damage, words):
    """File, number and remedy; a history with a hole gives no verdict, and no line is added to one."""
    lines = path.read_bytes().splitlines()
    lines[1] = damage(lines[1])
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    if not words:  # a key that this version does not know is none of its business
        assert len(history_file.read(path).history.runs) == 3
        return
    for use in (history_file.read, lambda path: history_file.append(path, made_line(9))):
        with pytest.raises(InputError) as raised:
            use(path)
        assert f"{path}, {words}" in str(raised.value)
        assert raised.value.remedy
        assert raised.value.exit_code == ExitCode.USAGE
    assert path.read_bytes() == before


@pytest.fixture(name="content", scope="module")
def two_runs_and_a_decision(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small file."""
    path = tmp_path_factory.mktemp("history") / NAME
    lines = [made_line(day, sd=0.1) for day in range(2)]
    history_file.append(path, *lines, decision(lines[0].run.run, 9, "rejected"))
    return path.read_bytes()


@given(data=st.data())
def test_a_flipped_bit_is_never_another_history(content: bytes, data: st.DataObject) -> None:
    """Anywhere in the file: an error, or the same runs, or a last line that is moved away and said."""
    flipped = bytearray(content)
    flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(content)
        before = history_file.read(path).history
        path.write_bytes(flipped)
        try:
            found = history_file.read(path)
        except InputError:
            return
        assert found.history == before or found.warnings


def test_a_line_written_by_hand_needs_no_checksum(path: Path) -> None:
    """One that was changed fits no more; without its checksum it is taken as it is."""
    changed = path.read_bytes().replace(b'"value":223.4', b'"value":923.4', 1)
    path.write_bytes(changed)
    with pytest.raises(InputError, match="line 1 is damaged: its checksum does not match"):
        history_file.read(path)
    path.write_bytes(without_checksum(changed))
    assert history_file.read(path).history.runs[0].measurements.measurements[0].value > 900


def test_a_full_disk_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines of one append are there, or none."""
    before, write, left = path.read_bytes(), os.write, [100]

    def full(file: int, data: bytes) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: left.pop()])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match="No space left on device"):
        history_file.append(path, made_line(3), made_line(4))
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A folder of that name, or one below a file: before a run is made."""
    (tmp_path / NAME).mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / NAME, tmp_path / "file" / NAME):
        with pytest.raises(InputError, match="cannot write"):
            history_file.check_writable(path)
    with pytest.raises(InputError, match="cannot read"):
        history_file.read(tmp_path / NAME)


WRITER = """
import sys
from pathlib import Path
import msgspec
from loadtest.compare import history_file
from loadtest.compare.history import RunLine
line = msgspec.json.decode(sys.stdin.buffer.read(), type=RunLine)
sys.stdout.write("ready\\n"); sys.stdout.flush()
for number in range(20):
    run = msgspec.structs.replace(line.run, run=f"{sys.argv[2]}-{number}")
    history_file.append(Path(sys.argv[1]), msgspec.structs.replace(line, run=run))
    history_file.read(Path(sys.argv[1]))
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Three of them, each of which also reads: 60 whole lines, and no reader ever saw a part of one."""
    path = tmp_path / NAME
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in "abc"
    ]
    for writer in writers:
        writer.stdin.write(msgspec.json.encode(made_line(0)))
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.stdout.close()
    contents = history_file.read(path)
    assert contents.warnings == []
    assert {each.id for each in contents.history.runs} == {f"{name}-{n}" for name in "abc" for n in range(20)}
    assert len(path.read_bytes().splitlines()) == 60


def test_a_file_that_is_replaced_meanwhile_is_not_written_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `git pull` does it while a writer waits for the lock: the line goes into the new file."""
    waits, flock = threading.Event(), fcntl.flock

    def lock(file: int, how: int) -> None:
        waits.set()
        flock(file, how)

    with path.open("rb") as held:
        flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(fcntl, "flock", lock)
        writer = threading.Thread(target=history_file.append, args=(path, made_line(3)))
        writer.start()
        assert waits.wait(20)
        pulled = path.with_name("pulled")
        pulled.write_bytes(path.read_bytes())
        pulled.replace(path)
    writer.join(20)
    assert len(history_file.read(path).history.runs) == 4


def test_git_merges_two_branches_of_a_history(path: Path, tmp_path: Path) -> None:
    """With merge=union, as the repository's .gitattributes says: both nights are there, and nobody is asked."""

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / ".gitattributes").write_text("*.jsonl merge=union\n")
    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "three runs")
    git("checkout", "-b", "other")
    for branch, day in (("other", 3), ("main", 4)):
        git("checkout", branch)
        history_file.append(path, made_line(day))
        git("commit", "-am", f"day {day}")
    git("merge", "other")
    assert days([each.measurements for each in history_file.read(path).history.runs]) == [0, 1, 2, 3, 4]


def test_lines_are_small() -> None:
    """What is judged is what is kept: seven digits."""
    run = history.compact(made_run(3, sd=0.05))
    assert history.compact(run) == run
    for before, after in zip(made_run(3, sd=0.05).measurements, run.measurements, strict=True):
        assert after.score == pytest.approx(before.score, rel=1e-6)
        assert after.value == pytest.approx(before.value, rel=1e-6)
    assert isinstance(msgspec.json.decode(msgspec.json.encode(made_line()), type=RunLine | DecisionLine), RunLine)


def test_a_line_of_an_older_version_is_read_as_it_was(tmp_path: Path) -> None:
    """Without the facts that were added since, and with the distributions that are gone."""
    line = made_line(3, "regressed")
    old = msgspec.to_builtins(line)
    for added in ("definition", "files", "versions"):
        del old["run"][added]
    old["run"]["sketches"] = [{"traffic": "greetings", "stage": "steady", "n": 200, "quantiles_ms": [1.0, 2.0]}]
    path = tmp_path / "regression.jsonl"
    path.write_bytes(msgspec.json.encode(old) + b"\n")
    (found,) = history_file.read(path).history.runs
    assert (found.line.verdict, found.status, found.line.sentence) == ("regressed", "waiting", "day 3")
    assert found.measurements.measurements == line.run.measurements
    assert not mismatch(found.measurements, made_run(4))


def test_a_spreadsheet_takes_no_exported_text_as_a_formula() -> None:
    """Names of runs, commits and versions come from elsewhere."""
    line = made_line()
    hostile = msgspec.structs.replace(line.run, run="=cmd|' /C calc'!A0", commit="+1", target_version="@SUM(A1)")
    text = history.to_otava(fold([msgspec.structs.replace(line, run=hostile)]))
    assert text.splitlines()[1].split(",")[1:4] == ["'=cmd|' /C calc'!A0", "'+1", "'@SUM(A1)"]
