"""The words of the API are in one place: tables agree, reasons are produced and documented, files get plain text."""

import json
import re
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from loadtest.contract import (
    FIRST_KIND,
    LIMIT_NAMES,
    LIMIT_OF_KIND,
    LIMITS_OF_OPERATION,
    OPERATIONS,
    REQUESTS,
    ErrorCode,
    LimitName,
    Operation,
    Outcome,
    Reason,
    RequestKind,
)
from loadtest.report.plots import style

ROOT = Path(__file__).parent.parent


def produced() -> set[str]:
    """The reasons that some module names."""
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "loadtest").rglob("*.py"))
    return set(re.findall(r"\bReason\.([A-Z]\w+)", code))


def test_every_reason_is_produced() -> None:
    """A reason that no code names is deleted."""
    assert {reason.name for reason in Reason} == produced()


def test_every_reason_is_documented() -> None:
    """The table in docs/record.md names each reason, and no other, beside an outcome that there is."""
    table = (ROOT / "docs/record.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| *(`\w+`)? *\| (`.*?`) \| .* \|$", table, re.MULTILINE)
    assert {word for _, words in rows for word in re.findall(r"`(\w+)`", words)} == set(Reason)
    outcomes = [outcome.strip("`") for outcome, _ in rows if outcome]
    assert sorted(outcomes) == sorted(set(Outcome) - {Outcome.OK})


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_one_sentence(reason: Reason) -> None:
    assert re.fullmatch(r"[A-Z][^.]*(\.\w[^.]*)*\.", reason.sentence)


def test_tables_cover_every_member() -> None:
    """A new operation or kind of request is in every table, or the tables say so here."""
    assert set(OPERATIONS) == set(FIRST_KIND) == set(LIMITS_OF_OPERATION) == set(Operation)
    assert set(REQUESTS) == set(LIMIT_OF_KIND) == set(RequestKind)
    assert {limit for limits in LIMITS_OF_OPERATION.values() for limit in limits} == set(LIMIT_NAMES)
    assert all(400 <= code.status < 600 for code in ErrorCode)


def test_every_operation_is_documented() -> None:
    """docs/scenarios.md says of each what it does."""
    (row,) = re.findall(r"^\| `operation` .*", (ROOT / "docs/scenarios.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)` \(", row)) == set(Operation)


def test_every_operation_has_a_colour_of_its_own() -> None:
    """There are as many colours as operations, and a page has the same ones."""
    assert len(set(style.OPERATIONS.values())) == len(set(map(str, style.LINES.values()))) == len(Operation)
    css = (ROOT / "loadtest" / "report" / "formats" / "page.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--(series-\d): (#\w+)", css.partition("@media")[0]))
    assert list(light.values())[: len(Operation)] == list(style.OPERATIONS.values())


def test_members_are_written_as_plain_text() -> None:
    """JSON, Arrow and messages have the text and nothing of the enum."""
    assert json.dumps({LimitName.SYNC_RUN: Reason.TIMEOUT}) == '{"sync_run": "timeout"}'
    assert msgspec.json.encode({LimitName.SYNC_RUN: Reason.TIMEOUT}) == b'{"sync_run":"timeout"}'
    assert pa.array([Outcome.OK, None], pa.string()).to_pylist() == ["ok", None]
    assert f"{ErrorCode.INTERNAL} {ErrorCode.INTERNAL!r}" == "internal 'internal'"
