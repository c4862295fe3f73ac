"""The short form of ``bench/regression_power.py``: the bars on a few families, and whether it measures what it says."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import regression_blocks as blocks
from regression_checks import CHANGED, NONE, Change, as_matrices, check, families, real_blocks
from regression_families import HISTORY, HISTORY_REAL, PAIRED, PAIRED_REAL, draw, rows
from regression_power import BRIEF, Tally, bar_table, changes, collected, interval
from regression_rivals import rivals, threshold

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def brief():
    """Results of the short form, a few families each."""
    return collected(BRIEF, 40, alone=True)


@pytest.mark.heavy
def test_the_bars_hold_in_the_short_form(brief):
    """No bar is missed by more than so few families explain."""
    lines, held = bar_table(brief)
    assert held, lines
    assert len(lines) == 2 + 13


def test_a_rule_that_always_alarms_misses_the_bars():
    """The bars can be missed."""
    always = Tally(np.ones(60, bool), np.ones(60, bool), np.full(60, 4), {}, {}, {})
    lines, held = bar_table({name: dict.fromkeys(changes(name), always) for name in ("h02", "pr4")})
    assert not held
    assert sum("**no**" in line for line in lines) == 3


def test_a_rule_that_never_alarms_misses_the_bars_of_power():
    """Silence is no virtue."""
    never = Tally(np.zeros(60, bool), np.zeros(60, bool), np.full(60, 12), {}, {}, {})
    lines, held = bar_table({name: dict.fromkeys(changes(name), never) for name in ("h02", "p02")})
    assert not held
    assert sum("**no**" in line for line in lines) == 6


def test_the_documentation_lists_regimes_and_seeds_as_they_are():
    """Whoever changes a regime or a seed changes the page."""
    page = (ROOT / "bench" / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in rows() if line and line not in page] == []


@pytest.mark.parametrize("kind", blocks.REGIMES)
def test_there_are_enough_real_blocks(kind):
    """At least 200 a side, each with every entry."""
    found = Counter((row.side, row.entry) for row in blocks.read() if row.regime == kind)
    assert set(found) == {(side, entry) for side in ("base", "head") for entry in (*blocks.ENTRIES, blocks.VARIANT)}
    assert min(found.values()) >= 200


def test_the_real_change_is_as_large_as_it_says():
    """The slower workflow is slower by its factor."""
    for name, regime in blocks.REGIMES.items():
        rows_ = [row for row in blocks.read() if row.regime == name]
        medians = {
            entry: np.median([row.execution_p50 for row in rows_ if row.entry == entry])
            for entry in (CHANGED, blocks.VARIANT)
        }
        assert medians[blocks.VARIANT] / medians[CHANGED] == pytest.approx(regime.slower, rel=0.02)


def test_real_lognormal_blocks_vary_as_theory_says():
    """A median of 40 draws of σ 0.4 has a standard deviation of about 8 %."""
    sds = [
        np.log([row.execution_p50 for row in blocks.read() if (row.regime, row.entry) == ("lognormal", entry)]).std()
        for entry in blocks.ENTRIES
    ]
    assert 0.06 < np.median(sds) < 0.10


@pytest.mark.parametrize("name", ["hr4", "pr4", "pr5"])
def test_blocks_of_a_given_sd_are_of_sessions_that_have_it(name):
    """Every session that is drawn from varies by no more, and others are left out."""
    drawn = {**HISTORY_REAL, **PAIRED_REAL}[name]
    calm, every = real_blocks(drawn), real_blocks(drawn._replace(most_sd=None))
    sessions = {session for session, _ in calm.pairs}
    assert max(every.sd(session) for session in sessions) <= drawn.most_sd
    assert len(sessions) < len({session for session, _ in every.pairs})


def test_simulated_runs_vary_as_their_regime_says():
    """The sd and the correlation of what is drawn."""
    flat = draw(HISTORY["h02"], 2000, paired=False).reshape(-1, 5, 6)
    assert flat[:, :, 0].std() == pytest.approx(0.03, rel=0.05)
    assert flat[:, :, 1].std() == pytest.approx(0.045, rel=0.05)
    assert np.corrcoef(flat[:, 0, 0], flat[:, 0, 1])[0, 1] == pytest.approx(0.3, abs=0.05)
    assert np.corrcoef(flat[:, 0, 0], flat[:, 1, 0])[0, 1] == pytest.approx(0.0, abs=0.05)


def test_mirrored_pairs_cancel_a_linear_drift():
    """Of two pairs in a row, one begins with the other side."""
    noise = draw(PAIRED["p01"]._replace(sd=1e-9, runs=6), 50, paired=True)
    differences = (noise[:, 1::2] - noise[:, ::2]).mean(axis=(2, 3))
    assert np.abs(differences).min() > 1e-3
    assert differences[:, :2].sum(axis=1) == pytest.approx(0, abs=1e-6)


def test_a_change_is_added_to_run_and_rerun_alone():
    """The history keeps its values."""
    (same,), (slower,) = (list(families("h02", change, 1)) for change in (NONE, Change(1.2)))
    base, head, entries = as_matrices([slower])
    base_before, head_before, _ = as_matrices([same])
    changed = np.array([entry == CHANGED for entry in entries])
    assert (base == base_before).all()
    assert (head - head_before)[:, :, changed] == pytest.approx(np.log(1.2))
    assert (head == head_before)[:, :, ~changed].all()


def test_a_large_change_is_found_on_the_right_entry():
    """+100 % on one entry of a calm history: that entry, and no other."""
    (family,) = families("h01", Change(2.0), 1)
    outcome = check(family, paired=False)
    assert outcome.rerun
    assert outcome.regressed
    assert outcome.entries == {CHANGED}


def test_other_rules_agree_with_scipy():
    """Welch's p and the Mann–Whitney U are SciPy's."""
    from scipy.stats import mannwhitneyu, ttest_ind  # noqa: PLC0415 - slow to import

    random = np.random.default_rng(1)
    base, head = random.normal(4, 0.1, (3, 12, 2)), random.normal(4.05, 0.1, (3, 12, 2))
    found = rivals(base, head, True, None)
    welch = ttest_ind(head[:, :6], base[:, :6], axis=1, equal_var=False, alternative="greater")
    assert found["Welch"].single == pytest.approx(1 - welch.pvalue)
    u = mannwhitneyu(head[:, :6], base[:, :6], axis=1).statistic
    assert found["Mann-Whitney"].single == pytest.approx(u / 36)


def test_equal_false_alarms_are_never_more_than_allowed():
    """At the threshold as many families alarm as allowed, fewer where values are tied."""
    values = np.array([0.1, 0.9, 0.9, 0.5, 0.3])
    assert [(values > threshold(values, k)).sum() for k in range(4)] == [0, 0, 2, 3]
    assert (values > threshold(values, 5)).all()


def test_an_interval_of_a_share():
    """None of 300 bounds a rate at about 1.2 %; the interval is Clopper and Pearson's."""
    assert interval(0, 300) == (0.0, pytest.approx(0.01222, abs=1e-5))
    assert interval(300, 300)[1] == 1.0
