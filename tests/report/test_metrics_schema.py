"""metrics.json keeps to its published schema, whatever became of the run."""

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema_rs
import pytest
from plugins import record_maker as maker
from plugins.verbs import Said

from loadtest.analysis import findings
from loadtest.analysis.run_record import load_record
from loadtest.errors import ExitCode

SCHEMA = json.loads(findings.schema_text())
PUBLISHED = Path(__file__).with_name("metrics_names.txt")
"""Every name of a field that a published metrics.json has."""


@pytest.fixture(scope="module")
def validator() -> jsonschema_rs.Draft202012Validator:
    """Of the schema, which is itself one."""
    jsonschema_rs.meta.validate(SCHEMA)
    return jsonschema_rs.Draft202012Validator(SCHEMA)


def wrong(validator: jsonschema_rs.Draft202012Validator, directory: Path) -> list[str]:
    """What the run's metrics.json does that the schema does not have."""
    findings.write(findings.find(load_record(directory)))
    return errors(validator, directory)


def errors(validator: jsonschema_rs.Draft202012Validator, directory: Path) -> list[str]:
    """The same of a metrics.json that is there."""
    metrics = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    return [f"{list(error.instance_path)}: {error.message}" for error in validator.iter_errors(metrics)]


def test_the_tours_metrics_are_valid(toured, validator):
    """Every operation, thresholds, limits, 429s and time-outs."""
    assert errors(validator, toured[0]) == []


@pytest.mark.parametrize(
    "case", ["one operation", "no success", "all dropped", "nothing at all", "killed", "no traffic"]
)
def test_metrics_of_next_to_nothing_are_valid(tmp_path, validator, case):
    """The edges: nulls where there is nothing to say, never another shape."""
    records = importlib.import_module("plugins.edge_records").records
    assert wrong(validator, maker.save(tmp_path / "run", *records()[case])) == []


def test_a_field_that_nobody_knows_is_found(toured, validator):
    """The schema is strict about figures: a misspelt or unpublished one would not go unseen."""
    metrics = json.loads((toured[0] / "metrics.json").read_text(encoding="utf-8"))
    metrics["traffic"]["greetings"]["respnse_time_ms"] = 1
    assert not validator.is_valid(metrics)


def fields(part: object) -> Iterator[str]:
    """The names of all fields in a part of a schema."""
    if isinstance(part, dict):
        yield from part.get("properties", {})
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from fields(each)


def test_no_published_field_is_renamed_or_gone() -> None:
    """Others read metrics.json: fields may come, and those that were published stay."""
    assert set(PUBLISHED.read_text(encoding="utf-8").split()) - set(fields(SCHEMA)) == set()


def test_the_command_prints_the_schema(loadtest: Callable[..., Said]) -> None:
    """``loadtest report --schema`` needs no run."""
    said = loadtest("report", "--schema")
    assert said.code == ExitCode.PASS
    assert json.loads(said.out) == SCHEMA
