"""The history of a scenario: what its lines come to in any order, and after a merge."""

import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.history_parts import days, decision, made_line, made_run, moment

from loadtest.compare import history, history_file
from loadtest.compare.history import DecisionLine, HistoryLine, RunLine, fold
from loadtest.compare.measurements import mismatch

NAME = "regression.jsonl"


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
    assert found.evidence(made_run(5)) == ([], [])


def test_later_runs_are_compared_from_the_accepted_change_on() -> None:
    """Not with regressed or rejected runs; an accepted regression starts a segment, until it is rejected."""
    lines: list[HistoryLine] = [made_line(day, "regressed" if day in {3, 6} else "pass") for day in range(8)]
    run = made_run(9)
    assert days(fold(lines).evidence(run)[0]) == [0, 1, 2, 4, 5, 7]
    lines.append(decision(made_run(3).run, 8, new_segment=True))
    assert days(fold(lines).evidence(run)[0]) == [3, 4, 5, 7]
    lines.append(decision(made_run(4).run, 8, "rejected"))
    assert days(fold(lines).evidence(run)[0]) == [3, 5, 7]
    lines.append(decision(made_run(3).run, 9, "rejected", new_segment=True))
    assert days(fold(lines).evidence(run)[0]) == [0, 1, 2, 5, 7], "the last decision holds"
    assert days(fold(lines).evidence(made_run(7))[0]) == [0, 1, 2, 5], "no run is compared with itself"


def test_only_comparable_runs_are_evidence_and_others_name_the_field() -> None:
    """Two targets may share a history; a segment of one does not cut the other's."""
    other = "https://other.example.com:443"
    lines: list[HistoryLine] = [
        made_line(day, host=other if day % 2 else "https://staging.example.com:443") for day in range(6)
    ]
    lines.append(decision(made_run(3).run, 7, new_segment=True))
    assert days(fold(lines).evidence(made_run(9))[0]) == [0, 2, 4]
    assert days(fold(lines).evidence(made_run(9, host=other))[0]) == [3, 5]
    assert days(fold(lines).evidence(made_run(9, host="https://third.example.com:443"))[0]) == list(range(6))


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
