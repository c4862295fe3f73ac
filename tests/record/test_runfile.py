"""run.json and run directories: written whole, read strictly, found by path, id or `latest`."""

from pathlib import Path

import msgspec
import pytest

from loadtest.errors import InputError, RecordError
from loadtest.record import run_directory
from loadtest.record.run_directory import FILE_NAME
from loadtest.record.run_info import RunInfo, ScenarioInfo, StagePlan, TargetInfo, TrafficPlan
from loadtest.units import Limit


def info(**changes: object) -> RunInfo:
    """A run."""
    made = RunInfo(
        id="20260101T000000Z-mine-abcdef",
        scenario=ScenarioInfo(name="mine", title="Größe × 2", hash="0" * 12, effective={"seed": 2**63 - 1}),
        seed=2**63 - 1,
        target=TargetInfo(url="http://127.0.0.1:1", embedded=True, limits={"sync_run": Limit(100, 60.0)}),
        keys=1,
        workers=1,
        traffic={
            "a": TrafficPlan(
                operation="sync_run",
                workflow=None,
                arrivals="even",
                users=3,
                stages=[StagePlan(name="s", start_s=0, duration_s=0.1, rate=1 / 3, rate_to=1e-9, over=["sync_run"])],
            )
        },
        versions={},
        machine={},
        command=["loadtest", "run", "mine"],
        started="2026-01-01T00:00:00.000+00:00",
    )
    return msgspec.structs.replace(made, **changes)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Every number as it was, and nothing but run.json is left behind; a second save replaces the first."""
    run_directory.save(info(), tmp_path)
    assert run_directory.load(tmp_path) == info()
    ended = info(end="finished", samples=3, epoch_unix_ns=1_700_000_000_123_456_789)
    run_directory.save(ended, tmp_path)
    assert run_directory.load(tmp_path) == ended
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    size = (tmp_path / FILE_NAME).stat().st_size
    cut = info(end="aborted", end_reason="cannot write the record: No space left on device")
    run_directory.overwrite(cut, tmp_path)
    assert run_directory.load(tmp_path) == cut
    assert (tmp_path / FILE_NAME).stat().st_size < size, "a full disk has room for it"


def test_a_run_is_complete_once_it_ended_and_closed_its_record() -> None:
    """Neither one that still runs nor one whose record was not closed."""
    assert not info().complete
    assert not info(end="finished").complete
    assert not info(samples=3).complete
    assert all(info(end=end, samples=0).complete for end in ("finished", "interrupted", "aborted"))


DAMAGED = {
    "empty": (b"", "damaged"),
    "half of it": (b'{"schema": 1, "id": "x', "damaged"),
    "no schema": (b"{}", "damaged"),
    "a list": (b"[]", "damaged"),
    "not UTF-8": (b'{"schema": 1, "id": "\xff"}', "damaged"),
    "too deep": (b'{"schema": 1, "x": ' + b"[" * 100_000, "damaged"),
    "another version": (b'{"schema": 2}', "schema version 2; this loadtest reads version 1"),
    "a field missing": (b'{"schema": 1}', "damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_run_file_is_refused(tmp_path: Path, name: str) -> None:
    """An error that names the file and why."""
    content, words = DAMAGED[name]
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(RecordError, match=words) as caught:
        run_directory.load(tmp_path)
    assert str(tmp_path / FILE_NAME) in str(caught.value)


def test_a_missing_run_file_is_refused(tmp_path: Path) -> None:
    """Also where a directory has its name."""
    with pytest.raises(RecordError, match="cannot read"):
        run_directory.load(tmp_path)
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(RecordError, match="cannot read"):
        run_directory.load(tmp_path)


def test_a_new_directory_is_named_by_time_scenario_and_chance(tmp_path: Path) -> None:
    """`<UTC time>-<scenario>-<6 hex>`, its parents are made, and two at once differ."""
    one, two = (run_directory.new_run_directory(tmp_path / "a" / "b", "mine") for _ in range(2))
    assert one != two
    assert one.is_dir()
    assert two.parent == tmp_path / "a" / "b"
    assert one.name.split("-")[1:-1] == ["mine"]
    assert len(one.name) == len("20260101T000000Z-mine-abcdef")


def test_a_directory_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    """A file stands where the parent should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot create a run directory"):
        run_directory.new_run_directory(tmp_path / "file", "mine")


def test_runs_are_found_by_path_id_and_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUN on a command line, from wherever it is given; `latest` follows the last one that was made."""
    runs = []
    for name in ("a", "b"):
        runs.append(run_directory.new_run_directory(tmp_path, name))
        run_directory.save(info(id=runs[-1].name, end="finished"), runs[-1])
        run_directory.point_latest(runs[-1])
        assert run_directory.find_run("latest", tmp_path) == runs[-1].resolve()
    assert run_directory.find_run(str(runs[0])) == runs[0].resolve()
    assert run_directory.find_run(runs[0].name, tmp_path) == runs[0].resolve()
    assert run_directory.find_run(str(tmp_path / "latest")) == runs[1].resolve()
    monkeypatch.chdir(runs[0])
    assert run_directory.find_run(".") == runs[0].resolve()


def test_latest_is_a_run_that_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While its process lives, the newest run is passed over, and that is noted; a killed run is not."""
    ended = run_directory.new_run_directory(tmp_path, "a")
    run_directory.save(info(id=ended.name, end="finished"), ended)
    going_on = run_directory.new_run_directory(tmp_path, "b")
    run_directory.save(info(id=going_on.name), going_on)
    run_directory.point_latest(going_on)
    assert run_directory.find_run("latest", tmp_path) == ended.resolve()
    assert capsys.readouterr().err == f"{going_on.name} has not ended: latest is {ended.name}\n"
    run_directory.new_run_directory(tmp_path / "other", "c")
    assert run_directory.find_run("latest", tmp_path) == going_on.resolve()


@pytest.mark.parametrize("run", ["nothing", "latest", "", "a" * 300, "../.."])
def test_a_run_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str) -> None:
    """It says where it was looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is not a run"):
        run_directory.find_run(run)


def test_latest_leaves_a_file_of_that_name_alone(tmp_path: Path) -> None:
    """Nothing of somebody else's is replaced; a link that points nowhere is."""
    run = run_directory.new_run_directory(tmp_path, "mine")
    (tmp_path / "latest").symlink_to("gone")
    run_directory.point_latest(run)
    assert (tmp_path / "latest").resolve() == run.resolve()
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").write_text("mine")
    run_directory.point_latest(run)
    assert (tmp_path / "latest").read_text() == "mine"
