"""Operations and requests as frames and files: every row, every unit, and the figures of metrics.json."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from plugins import record_maker as maker
from plugins.records import read_table
from plugins.verbs import Said
from pyarrow import parquet

from loadtest import analysis
from loadtest.analysis import frames
from loadtest.analysis.results import TIMES, OperationStage, Summary
from loadtest.errors import ExitCode, InputError
from loadtest.metrics import STATISTICS
from loadtest.stats.order_statistics import QUANTILES

ROOT = Path(__file__).parents[2]
LAGS = {"start_lag_ms", "dispatch_lag_ms"}
"""Of every operation that was sent, whatever its outcome."""
NOT_THERE = {"service_time_new_ms", "service_time_reused_ms"}
"""Those of ``service_time_ms`` by ``connection_reused``."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of the tour's mix: within and above the limits, with time-outs, a warm-up, and more than one chunk."""
    traffic = maker.tour_traffic(0.3)
    rows = maker.Simulation(traffic, error_share=0.01).run()
    rows.insert(0, maker.request("jobs", 0, -40, -30, stage="setup", parent_arrival=None, operation="async_run"))
    rows[40].mistake = "bad_key"
    return Path(maker.save(tmp_path_factory.mktemp("frames") / "some-run", maker.info(traffic), rows))


@pytest.fixture(scope="module")
def operations(run: Path) -> pd.DataFrame:
    return analysis.operations(run)


@pytest.fixture(scope="module")
def requests(run: Path) -> pd.DataFrame:
    return analysis.requests(run)


def figures_of(figures: OperationStage) -> dict[str, dict[str, float | None]]:
    """Statistics of every time that the frames have, by its column."""
    return {
        name: {statistic: found.get(statistic).value for statistic in STATISTICS}
        for name in TIMES
        if name not in NOT_THERE and isinstance(found := getattr(figures, name), Summary)
    }


def test_percentiles_of_the_frames_are_those_of_metrics_json(run, operations, requests):
    """Every statistic of every time of every stage comes out the same by one line of NumPy."""
    compared = set()
    for entry, whole in analysis.understand(run).metrics.traffic.items():
        for stage, figures in whole.stages.items():
            for name, statistics in figures_of(figures).items():
                frame = operations if name in operations else requests
                kept = frame[(frame["traffic"] == entry) & (frame["stage"] == stage) & frame["in_figures"]]
                values = (kept if name in LAGS else kept[kept["in_latency"]])[name].dropna().to_numpy(float)
                own = {
                    name: np.quantile(values, q, method="inverted_cdf") for name, q in QUANTILES.items() if len(values)
                }
                own |= {"mean": values.mean(), "max": values.max()} if len(values) else {}
                known = {statistic: value for statistic, value in statistics.items() if value is not None}
                assert {statistic: own[statistic] for statistic in known} == pytest.approx(known, rel=1e-12), name
                compared |= {name} if known else set()
    assert compared == {*TIMES} - NOT_THERE - {"connect_ms"}, "no connection was made in this record"


def test_counts_of_the_frames_are_those_of_metrics_json(run, operations, requests):
    """Outcomes and requests in figures are as many."""
    overall = analysis.understand(run).metrics.overall
    counted = operations[operations["in_figures"]]
    assert (counted["outcome"] == "ok").sum() == overall.operations.ok
    assert (counted["outcome"] == "timed_out").sum() == overall.operations.timed_out > 0
    assert requests["in_figures"].sum() == overall.requests.sent
    assert (requests.loc[requests["in_figures"], "status"] == 429).sum() == overall.requests.throttled


def test_every_row_and_value_of_the_record_is_in_one_of_them(run, operations, requests):
    """Rows are named by their number in the record; what was recorded of them is there under its name or a unit's."""
    record = read_table(run).to_pandas(integer_object_nulls=True)
    assert sorted([*operations["record_row"], *requests["record_row"]]) == list(range(1, len(record) + 1))
    for frame, other in (
        (operations, {"attempt": "attempts", "poll": "polls"}),
        (requests, {"parent_arrival": "arrival"}),
    ):
        rows = record.iloc[frame["record_row"].to_numpy(int) - 1]
        for name in set(rows) - {"row"}:
            ours = next((each for each in (other.get(name), f"{name}_ns", name) if each in frame), None)
            if ours is None:
                assert rows[name].isna().all(), name
                continue
            if ours == "arrival" and name == "arrival" and "parent_arrival" in other:
                continue  # requests have none of their own
            there = frame[ours].notna().to_numpy()
            assert (there == rows[name].notna().to_numpy()).all(), name
            assert frame[ours][there].tolist() == rows[name][there].tolist(), name


def test_every_column_says_its_unit(operations: pd.DataFrame, requests: pd.DataFrame) -> None:
    """A time is a timestamp in UTC, or its name ends with its unit; numbers, truths and words have their types."""
    for frame in (operations, requests):
        for name, kind in frame.dtypes.items():
            text = str(kind)
            if name.endswith("_ms"):
                assert text == "float64", name
            elif text.startswith("datetime"):
                assert text == "datetime64[ns, UTC]", name
            else:
                assert text in {"Int64", "boolean", "category", "str"}, name
    first = operations.iloc[0]
    epoch = pd.Timestamp(1_753_000_000_250_000_000, unit="ns", tz="UTC")
    assert first["intended_start"] == epoch + pd.Timedelta(first["intended_start_ns"], "ns")


def test_what_is_in_no_figure_is_marked(requests: pd.DataFrame, operations: pd.DataFrame) -> None:
    """The set-up and the warm-up are there, and in no figure; a mistake counts, and is no latency."""
    assert not requests.loc[requests["stage"].isin(["setup", "warmup"]), "in_figures"].any()
    assert operations.loc[operations["stage"] != "warmup", "in_figures"].all()
    wrong = pd.concat([requests, operations])
    assert not wrong.loc[wrong["mistake"].notna(), "in_latency"].any()
    assert set(requests["limit"]) == {"sync_run", "async_submit", "retrieval"}


def test_requests_lead_to_their_operation(operations: pd.DataFrame, requests: pd.DataFrame) -> None:
    """Run, traffic and arrival join the two: each job has as many polls as its operation says."""
    polls = requests[requests["kind"] == "poll"].groupby(["run", "traffic", "arrival"], observed=True).size()
    jobs = operations.set_index(["run", "traffic", "arrival"])["polls"]
    assert (jobs.loc[polls.index] == polls).all()


def test_several_runs_are_one_frame(run: Path, tmp_path: Path) -> None:
    """Ids and directories may be mixed; `run` tells the runs apart, by their paths where they are called alike."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 5, 2)])}
    for name in ("a/00-base", "b/00-base"):
        maker.save(tmp_path / name, maker.info(traffic), maker.Simulation(traffic).run())
    frame = analysis.operations([run, "a/00-base"], reports=tmp_path)
    assert frame.groupby("run", observed=True).size().to_dict() == {"some-run": len(frame) - 10, "00-base": 10}
    alike = analysis.operations([tmp_path / "a/00-base", tmp_path / "b/00-base"])
    assert set(alike["run"]) == {str(tmp_path / "a/00-base"), str(tmp_path / "b/00-base")}
    with pytest.raises(InputError, match="is not a run"):
        analysis.requests([run, "nowhere"])
    figures = analysis.metrics([analysis.understand(run), "a/00-base"], reports=tmp_path)
    assert figures["run"].unique().tolist() == ["some-run", "00-base"]
    goodput = figures[(figures["run"] == "00-base") & (figures["metric"] == "goodput")]["value"]
    assert set(goodput) == {2.0}


def test_a_run_without_a_row_has_every_column(tmp_path: Path) -> None:
    """A run that ended before its epoch is an empty frame."""
    directory = maker.save(tmp_path / "run", maker.info({}, epoch_unix_ns=None), [])
    assert list(analysis.operations(directory)) == [column.name for column in frames.OPERATIONS]
    assert len(analysis.requests(directory)) == 0


def test_a_time_that_cannot_be_is_no_timestamp(tmp_path: Path) -> None:
    """A damaged row keeps what was recorded in ns; its timestamp is unknown, and it is in no figure."""
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 5, 2)], offered=1)}
    row = maker.operation("t", 0, 0, 5)
    row.end = 2**62
    frame = analysis.operations(maker.save(tmp_path / "run", maker.info(traffic), [row]))
    assert frame["end_ns"].item() == 2**62
    assert frame["end"].isna().item()
    assert not frame["in_figures"].item()


def test_paths_of_exports_are_printed(run: Path, tmp_path: Path, loadtest: Callable[..., Said]) -> None:
    """One a line, and the files are there, in a folder that was missing."""
    said = loadtest("export", str(run), "--to", "csv", "--output", str(tmp_path / "new/one"))
    assert said.code == ExitCode.PASS
    paths = [tmp_path / f"new/one/{name}.csv" for name in ("operations", "requests")]
    assert said.out.split() == [str(path) for path in paths]
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_exports_are_the_frames(form: str, run: Path, tmp_path: Path, operations: pd.DataFrame) -> None:
    """Both files have every row and column of the frames."""
    paths = list(frames.export(run, form, tmp_path))
    read = duckdb.sql(f"from '{paths[0]}' order by record_row").df()
    assert list(read) == list(operations)
    for name in ("response_time_ms", "overhead_ms", "queue_wait_upper_ms", "dispatch_lag_ms"):
        np.testing.assert_array_equal(read[name].to_numpy(float), operations[name].to_numpy(float))
    assert (read["outcome"] == operations["outcome"].astype(str)).all()
    # DuckDB tells microseconds apart.
    assert (pd.to_datetime(read["end"], utc=True).dt.floor("us") == operations["end"].dt.floor("us")).all()


def test_parquet_says_the_unit_of_each_column(run: Path, tmp_path: Path) -> None:
    """In the file's metadata for every reader, and in each field's for Arrow, with what it means."""
    list(frames.export(run, "parquet", tmp_path))
    schema = parquet.read_schema(tmp_path / "requests.parquet")
    units = json.loads(schema.metadata[b"loadtest.units"])
    assert units["service_time_ms"] == "ms"
    assert units["first_byte_ns"] == "ns"
    assert units["start"] == "UTC"
    assert units["bytes_sent"] == "bytes"
    for field in schema:
        assert field.metadata[b"unit"].decode() == units.get(field.name, "")
        assert field.metadata[b"meaning"]
        timed = field.name.endswith(("_ms", "_ns")) or pa.types.is_timestamp(field.type)
        assert timed == (units.get(field.name) in {"ms", "ns", "UTC"}), field.name


def test_pandas_reads_the_types_of_the_frames_from_parquet(run: Path, tmp_path: Path, operations: pd.DataFrame) -> None:
    """Whole numbers and truths of which some are unknown, too, which are floats and objects without a hint."""
    path, _ = frames.export(run, "parquet", tmp_path)
    read = pd.read_parquet(path)
    assert operations["polls"].isna().any()
    assert read.dtypes.astype(str).to_dict() == operations.dtypes.astype(str).to_dict()


def test_an_output_that_cannot_be_written_is_one_sentence(run: Path) -> None:
    """A file in place of the directory is a usage error that names the option, and nothing is left behind."""
    with pytest.raises(InputError) as raised:
        list(frames.export(run, "csv", run / "run.json"))
    assert "--output" in raised.value.remedy
    assert not list(run.glob("*.part"))


def test_the_page_on_notebooks_explains_each_column() -> None:
    """docs/notebooks.md has a row for each, with its unit and meaning."""
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    for column in {*frames.OPERATIONS, *frames.REQUESTS}:
        assert f"| `{column.name}` | {column.unit} | {column.meaning} |" in page


def test_nothing_is_nan_that_is_a_whole_number(operations: pd.DataFrame) -> None:
    """What is not known is `<NA>`, never a float."""
    sync = operations[operations["operation"] == "sync_run"]
    assert sync["polls"].isna().all()
    assert not any(isinstance(value, float) and math.isnan(value) for value in sync["polls"])
