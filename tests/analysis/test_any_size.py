"""The same figures from a record however it lies on disk, and however much of it there is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugins import record_maker as maker

from loadtest.analysis import distribution, reader, rejections
from loadtest.analysis.findings import as_json, find
from loadtest.analysis.run_record import load_record


def figures(directory: Path) -> dict[str, Any]:
    """Everything that metrics.json holds."""
    return json.loads(as_json(find(load_record(directory))))


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of the tour."""
    return maker.tour(tmp_path_factory.mktemp("tour") / "run", scale=0.2)


@pytest.fixture(scope="module")
def whole(tour: Path) -> dict[str, Any]:
    """Its figures from one chunk, with every value kept as it is."""
    return figures(tour)


def test_the_size_of_batches_and_chunks_changes_nothing(tour, whole, monkeypatch) -> None:
    """Chunks of a few batches give the figures that one chunk gives, in every digit but the last ones of a mean."""
    monkeypatch.setattr(reader, "_ROWS", 700)
    assert_close(figures(tour), whole, 1e-12)


def test_histograms_give_the_same_figures_within_half_a_percent(tour, whole, monkeypatch) -> None:
    """Where no value is kept as it is, counts, rates and judgements are the same, and times within 0.4 %."""
    monkeypatch.setattr(reader, "_ROWS", 700)
    exact = distribution.Distributions.__init__.__defaults__
    monkeypatch.setattr(distribution.Distributions.__init__, "__defaults__", (0,))
    assert exact == (distribution.EXACT,)
    assert_close(figures(tour), whole, 0.004)


def test_beyond_what_is_replayed_counts_stay_exact(tour, whole, monkeypatch) -> None:
    """Only so many requests of a limit name are kept for limiters; the rest has no expectation, and is counted."""
    monkeypatch.setattr(rejections, "MOST", 200)
    record = load_record(tour)
    assert not record.sent.complete
    assert np.bincount(record.sent_requests["limit"]).max() == 200
    part = json.loads(as_json(find(record)))
    assert part["overall"]["requests"]["sent"] == whole["overall"]["requests"]["sent"]
    assert part["limits"] == whole["limits"]
    assert part["overall"]["requests"]["expected_throttled_rate"] is not None


def assert_close(found: Any, wanted: Any, relative: float, path: str = "") -> None:
    """The same JSON, numbers to a relative error; sentences, which quote numbers, are left out."""
    if isinstance(wanted, dict) and "why_not" in wanted and wanted.get("kind") == "blocks" and found["kind"] is None:
        # What lies within one or two buckets of a histogram has no level on either side.
        assert wanted["high"] / wanted["low"] < 1.02, path
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted), path
        for key, value in wanted.items():
            if key not in ("validity", "sentence", "reasons") or path:
                assert_close(found[key], value, relative, f"{path}.{key}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), path
        for place, value in enumerate(wanted):
            assert_close(found[place], value, relative, f"{path}[{place}]")
    elif relative > 1e-6 and (".interval[" in path or (path.startswith(".intervals") and not path.endswith(".value"))):
        pass  # which level is a bound rests on the counts about it, which the edge of a histogram's bucket moves
    elif isinstance(wanted, float):
        # A margin is a difference: it is as exact as what it is a difference of.
        assert found == pytest.approx(wanted, rel=relative, abs=5.0 if path.endswith("margin") else 1e-9), path
    else:
        assert found == wanted, path
