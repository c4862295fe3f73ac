"""A report says what a run connected to, where that was more than one address."""

from pathlib import Path

import pytest
from plugins import record_maker as maker

from loadtest.analysis import load_record
from loadtest.record.run_info import PeerInfo
from loadtest.report.facts import facts


@pytest.mark.parametrize(
    ("peers", "shown"),
    [
        ({}, None),
        ({"10.0.0.1": PeerInfo(connections=5)}, None),
        (
            {"10.0.0.2": PeerInfo(failed=3), "::1": PeerInfo(connections=1), "10.0.0.1": PeerInfo(connections=1234)},
            "10.0.0.1 (1,234 connections), ::1 (1 connection), 10.0.0.2 (0 connections, 3 failed)",
        ),
        (
            {f"10.0.0.{n}": PeerInfo(connections=9) for n in range(12)},
            ", ".join(f"10.0.0.{n} (9 connections)" for n in range(10)) + " and 2 more",
        ),
    ],
    ids=["none", "one", "three", "twelve"],
)
def test_several_addresses_are_named(tmp_path: Path, peers: dict[str, PeerInfo], shown: str | None) -> None:
    """The most used first, with what failed, and no more than ten."""
    rows = [maker.request("t", 0, 0, 5), maker.operation("t", 0, 0, 5, start_ms=0)]
    plan = {"t": maker.plan("sync_run", [maker.stage("s", 0, 1, 1)], offered=1)}
    record = load_record(maker.save(tmp_path / "run", maker.info(plan, peers=peers), rows))
    assert dict(facts(record)).get("Connected to") == shown
