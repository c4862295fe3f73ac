"""Response times by key: one that is treated worse is named, by its index; chance names none."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins import record_maker as maker

from loadtest.analysis.findings import Findings
from loadtest.report.limits import bottleneck


def found(directory: Path, took: Callable[[int, int], float], n: int = 240, keys: int = 3) -> Findings:
    """Sync runs ten a second that take turns with the keys, each as long as ``took(arrival, key)`` says in ms."""
    rows = []
    for k in range(n):
        at, key = k * 100.0, k % keys
        end = at + took(k, key)
        rows += maker.both("t", k, at, end, key_index=key)
    entry = maker.plan("sync_run", [maker.stage("within", 0, n / 10, 10)], offered=n)
    return maker.findings(directory, maker.info({"t": entry}, keys=keys), rows)


def test_a_key_that_is_slower_is_named(tmp_path: Path) -> None:
    """Five times as slow as the others together: its index, by how much, and on how many that rests."""
    made = found(tmp_path / "run", lambda k, key: (50 if key == 2 else 10) + k % 7 * 0.1)
    (slow,) = made.slow_keys
    assert (slow.traffic, slow.key, slow.statistic, slow.n) == ("t", 2, "p50", 80)
    assert slow.factor == pytest.approx(5, rel=0.03)
    assert [(one.key, one.n) for one in made.keys] == [(0, 80), (1, 80), (2, 80)]


def test_a_key_that_is_slow_now_and_then_is_named_by_its_tail(tmp_path: Path) -> None:
    """Where half of its operations are as fast as the others', its p95 tells."""
    made = found(tmp_path / "run", lambda k, key: 200 if key == 1 and k % 5 == 0 else 10 + k % 7, n=600)
    (slow,) = made.slow_keys
    assert (slow.key, slow.statistic) == (1, "p95")


@pytest.mark.parametrize("seed", range(5))
def test_chance_names_no_key(tmp_path: Path, seed: int) -> None:
    """Long-tailed times of the same kind for every key: none stands out."""
    draw = random.Random(seed)
    assert found(tmp_path / "run", lambda _, __: 10 * draw.lognormvariate(0, 1), n=600).slow_keys == []


def test_few_operations_name_no_key(tmp_path: Path) -> None:
    """What n can't carry is no finding; one key has nobody to be compared with."""
    slow = lambda _, key: 50.0 if key == 2 else 10.0  # noqa: E731 -- shorter than a function
    assert found(tmp_path / "few", slow, n=12).slow_keys == []
    alone = found(tmp_path / "alone", slow, keys=1)
    assert (alone.keys, alone.slow_keys) == ([], [])


def test_what_a_limit_allows_is_by_key(tmp_path: Path) -> None:
    """An entry that keeps to one of five keys asks for 60 % of that key's quota, and for 12 % of all of them."""
    rows = [row for k in range(60) for row in maker.both("t", k, k * 1000, k * 1000 + 5, key_index=3 if k % 15 else 1)]
    traffic = {"t": maker.plan("sync_run", [maker.stage("within", 0, 60, 1)], offered=60)}
    traffic["t"].key_count = 5
    result = maker.findings(tmp_path / "run", maker.info(traffic, keys=5), rows)
    (use,) = result.uses
    assert (use.share, use.busiest, use.uneven) == (0.3, 0.56, True)
    assert [(one.key, one.sent, one.share) for one in use.keys] == [(3, 56, 0.56), (1, 4, 0.04)]
    words = bottleneck(result).replace("\u00a0", " ")
    assert "56 % of key 3’s share of the sync_run limit" in words
