from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from loadtest.cli import main
from loadtest.errors import ExitCode
from loadtest.record import samples


@pytest.fixture
def run(maker: ModuleType, tmp_path: Path) -> Path:
    """A short run with every kind of request."""
    traffic = {
        "jobs": maker.plan("async_run", [maker.stage("within", 0, 5, 2)]),
        "runs": maker.plan("sync_run", [maker.stage("within", 0, 5, 2)]),
    }
    rows = maker.Simulation(traffic).run()
    return Path(maker.save(tmp_path / "run", maker.info(traffic), rows))


def test_parquet_holds_every_sample(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The Parquet file is the record, schema and all, and its path is printed."""
    assert main(["export", str(run), "--to", "parquet"]) == ExitCode.PASS
    path = Path(capsys.readouterr().out.strip())
    assert path == run / "samples.parquet"
    assert parquet.read_table(path).equals(samples.read_table(run))


def test_csv_holds_every_sample(run: Path, tmp_path: Path) -> None:
    """The CSV has a row for each sample and a column for each field, null where nothing was recorded."""
    path = tmp_path / "out.csv"
    assert main(["export", str(run), "--to", "csv", "--output", str(path)]) == ExitCode.PASS
    table, record = csv.read_csv(path), samples.read_table(run)
    assert table.column_names == record.column_names
    assert table["start"].cast(pa.int64()).equals(record["start"])
    assert table["poll"].null_count == record["poll"].null_count


def test_an_output_that_cannot_be_written_is_one_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that isn't there is a usage error, and nothing is left behind."""
    assert main(["export", str(run), "--to", "csv", "--output", str(run / "no" / "x.csv")]) == ExitCode.USAGE
    assert "Name another --output" in capsys.readouterr().err
    assert not list(run.glob("*.part"))
