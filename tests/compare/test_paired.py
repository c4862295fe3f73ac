"""Two versions in pairs of blocks."""

import math
import statistics
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.regression_parts import JITTER, key, measurement, plain, run
from scipy.special import stdtr, stdtrit

from loadtest.compare.measurements import Key, Metric, RunMeasurements
from loadtest.compare.paired import block_order, compare_pairs, next_look, pairs_needed
from loadtest.compare.results import RunComparison

P50, P95 = key(Metric.RESPONSE_TIME_P50), key(Metric.RESPONSE_TIME_P95)
PLAIN = {P50: 100.0, P95: 150.0}
SLOWER = {P50: 112.0, P95: 151.0}


def pairs(
    base: Mapping[Key, float], head: Mapping[Key, float], count: int = 7, percent: float = 1.0, drift: float = 0.0
) -> list[tuple[RunMeasurements, RunMeasurements]]:
    """Pairs of blocks that differ a little; ``drift`` makes each block slower than the one before it."""
    made, number = [], 0
    for pair in range(count):
        sides = []
        for values in (base, head) if pair % 2 == 0 else (head, base):
            slower = (1 + drift) ** number
            by = [percent * JITTER[(number + 3 * place) % 7] / 100 for place in range(len(values))]
            moved = {each: value * slower * math.exp(by[i]) for i, (each, value) in enumerate(values.items())}
            sides.append((run(moved, number), values is head))
            number += 1
        sides.sort(key=lambda side: side[1])
        made.append((sides[0][0], sides[1][0]))
    return made


def regressed(compared: RunComparison) -> list[Key]:
    return [one.key for one in compared.metrics if one.verdict == "regressed"]


@given(st.integers(0, 1000), st.integers(0, 40))
def test_blocks_alternate_in_mirrored_pairs(seed: int, count: int) -> None:
    order = block_order(seed, count)
    assert len(order) == 2 * count
    for pair in zip(order[::2], order[1::2], strict=True):
        assert set(pair) == {"base", "head"}
    for start in range(len(order) % 4, len(order), 4):
        assert order[start : start + 4] in (("base", "head", "head", "base"), ("head", "base", "base", "head"))


def test_the_order_is_drawn_by_the_seed() -> None:
    """Sixty-four seeds give each side the first block about as often, and not the same order."""
    orders = [block_order(seed, 10) for seed in range(64)]
    assert len(set(orders)) > 20
    assert 16 <= sum(order[0] == "base" for order in orders) <= 48


def test_an_unchanged_version_passes() -> None:
    compared = compare_pairs(pairs(PLAIN, PLAIN))
    assert (compared.kind, compared.word, compared.exit_code) == ("paired", "pass", 0)
    assert {one.verdict for one in compared.metrics} == {"unchanged"}


def test_a_slower_version_regresses_without_a_rerun() -> None:
    found = compare_pairs(pairs(PLAIN, SLOWER))
    assert (found.word, found.exit_code, found.confirmed) == ("regressed", 4, False)
    assert regressed(found) == [P50]
    assert plain(found.sentence).startswith("greetings: response time p50 +12.1 ms (+12 %, 95 %: +")


def test_looks_are_after_whole_abba() -> None:
    """An invalid pair only moves a look; the last one is after the most pairs."""
    assert [next_look(valid, 12) for valid in (0, 3, 4, 5, 11)] == [4, 4, 6, 6, 12]
    assert [next_look(valid, most) for valid, most in ((0, 5), (4, 5), (12, 20))] == [4, 5, 20]


def test_what_is_not_excluded_is_open() -> None:
    """No worsening by 10 % is found or excluded: more pairs may settle it. Shares without events are not open."""
    errors = key(Metric.ERROR_RATE)
    compared = compare_pairs(pairs(PLAIN, PLAIN, percent=14.0, count=7))
    assert (compared.word, compared.exit_code) == ("inconclusive", 6)
    assert "+10 % is not excluded for greetings: response time p50" in compared.sentence
    few = [(run([measurement(errors, 0.0, n=9)], n), run([measurement(errors, 0.0, n=9)], n)) for n in range(6)]
    assert compare_pairs(few).word == "pass"
    some = [(run([measurement(errors, 1 / 9, n=9)], n), run([measurement(errors, 1 / 9, n=9)], n)) for n in range(6)]
    shares = compare_pairs(some)
    assert shares.word == "inconclusive"
    assert "but +2 points is not excluded for greetings: error rate" in shares.sentence


def test_one_odd_pair_hides_no_change() -> None:
    """Differences beyond 2.5 robust standard deviations are pulled in."""
    made = pairs(PLAIN, SLOWER)
    made[3] = (run({P50: 300.0, P95: 450.0}, 80), run(SLOWER, 81))
    assert compare_pairs(made).word == "regressed"


def test_the_first_pair_is_discarded_and_the_page_says_so() -> None:
    made = pairs(PLAIN, PLAIN)
    cold = (run({P50: 100.0, P95: 150.0}, 90), run({P50: 900.0, P95: 1500.0}, 91))
    compared = compare_pairs([cold, *made])
    assert compared.word == "pass"
    assert "run-091" not in compared.runs
    assert {one.n for one in compared.metrics} == {7}
    assert "The first pair is a warm-up and excluded." in compared.reasons
    assert {one.n for one in compare_pairs([cold, *made], discarded=0).metrics} == {8}


def test_drift_of_the_surroundings_is_the_same_on_both_sides() -> None:
    """10 % slower over the blocks is no change of the version, and hides none."""
    assert compare_pairs(pairs(PLAIN, PLAIN, drift=0.008)).word == "pass"
    assert regressed(compare_pairs(pairs(PLAIN, SLOWER, drift=0.008))) == [P50]


def test_the_figures_follow_the_formula() -> None:
    """Recomputed here: mean of the pairs' differences, s² of prior and pairs, SE = s ÷ √n."""
    made = pairs({P50: 100.0}, {P50: 104.0}, percent=8.0)
    one = compare_pairs(made).metrics[0]
    differences = [math.log(head.by_key()[P50].value / base.by_key()[P50].value) for base, head in made[1:]]
    seen, prior = statistics.variance(differences), 2 * 0.03**2
    variance = (4 * max(prior, seen) + 5 * seen) / 9
    delta, se = statistics.fmean(differences), math.sqrt(variance / 6)
    assert one.p == pytest.approx(float(stdtr(9, -delta / se)))
    low, high = (math.exp(delta + sign * float(stdtrit(9, 0.975)) * se) for sign in (-1, 1))
    assert one.ratio_interval == pytest.approx((low, high))


def test_blocks_that_vary_within_widen_the_interval_of_pairs_that_agree() -> None:
    """Few differences may agree by chance: what the blocks know of themselves is the least variance."""
    made = pairs(PLAIN, SLOWER, percent=0.0)
    unsure = [
        tuple(run([measurement(one.key, one.value, se=0.2) for one in block.measurements]) for block in pair)
        for pair in made
    ]
    assert regressed(compare_pairs(made)) == [P50]
    compared = compare_pairs(unsure)  # type: ignore[arg-type]
    assert compared.word == "inconclusive"
    assert compared.metrics[0].sd == pytest.approx(math.sqrt(2 * 0.2**2), rel=0.05)


def test_a_noisy_comparison_says_how_many_pairs_would_do() -> None:
    compared = compare_pairs(pairs(PLAIN, PLAIN, percent=25.0))
    assert (compared.word, compared.exit_code) == ("inconclusive", 6)
    assert any("Finding +10 % in every metric takes" in reason for reason in compared.reasons)
    assert any(one.verdict == "inconclusive" for one in compared.metrics)


def test_what_does_nothing_asks_for_no_more_pairs() -> None:
    """It varies by 150 %, of 1 ms."""
    short = key(Metric.RESPONSE_TIME_P50, "nothing")
    wild = [(run({short: 0.5 * 3 ** (n % 3)}, n), run({short: 0.5 * 3 ** ((n + 1) % 3)}, n)) for n in range(8)]
    both = [
        (run([*a.measurements, *c.measurements], n), run([*b.measurements, *d.measurements], n))
        for n, ((a, b), (c, d)) in enumerate(zip(pairs(PLAIN, PLAIN, percent=25.0), wild, strict=False))
    ]
    compared = compare_pairs(both)
    asked = [reason for reason in compared.reasons if reason.startswith("Finding +10 %")]
    assert len(asked) == 1
    assert asked[0].startswith("Finding +10 % in every metric, except short and polled times, takes ")
    assert "nothing" not in asked[0]


def test_more_noise_needs_more_pairs() -> None:
    needed = [pairs_needed(sd, 10) for sd in (0.02, 0.04, 0.08)]
    assert needed == sorted(needed)  # type: ignore[type-var]
    assert 4 <= (needed[0] or 0) < (needed[1] or 0) < (needed[2] or 0)
    assert pairs_needed(2.0, 10) is None


@pytest.mark.parametrize("count", [1, 2, 4])
def test_too_few_pairs_are_inconclusive(count: int) -> None:
    """The discarded one does not count."""
    compared = compare_pairs(pairs(PLAIN, SLOWER, count))
    assert (compared.word, compared.exit_code) == ("inconclusive", 6)


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no pair"):
        compare_pairs([])


def test_pairs_with_an_invalid_block_do_not_count() -> None:
    made = pairs(PLAIN, PLAIN)
    broken = run(SLOWER, 50, valid=False, sentence="dispatch lag p99 was 80 ms")
    compared = compare_pairs([*made, (made[0][0], broken)])
    assert compared.word == "pass"
    assert any("1 of 14 blocks" in reason for reason in compared.reasons)
    too_few = compare_pairs([*made[:3], *[(made[0][0], broken)] * 3])
    assert (too_few.word, too_few.exit_code) == ("invalid", 3)
    assert "80 ms" in too_few.sentence


def test_sides_with_different_keys_are_not_comparable() -> None:
    made = pairs(PLAIN, PLAIN)
    other = run(PLAIN, 50, scenario="tour")
    compared = compare_pairs([*made, (made[0][0], other)])
    assert (compared.word, compared.exit_code) == ("not comparable", 3)


def test_what_one_side_lacks_is_shown() -> None:
    made = [(base, run({P50: 100.0}, number)) for number, (base, _) in enumerate(pairs(PLAIN, PLAIN))]
    compared = compare_pairs(made)
    lacking = next(one for one in compared.metrics if one.metric == P95.metric)
    assert (lacking.gated, lacking.head, lacking.why) == (False, None, "the head has no such value")
    assert (compared.word, compared.exit_code) == ("inconclusive", 6), "a tested metric is gone"
    assert "the head side lacks greetings: response time p95" in compared.sentence
    assert any("Not measured on the head side" in reason for reason in compared.reasons)


def test_errors_of_one_side_are_a_finding() -> None:
    rate = key(Metric.ERROR_RATE)
    compared = compare_pairs(pairs({**PLAIN}, {**PLAIN}), discarded=1)
    assert not compared.findings
    made = [(run([measurement(rate, 0.0)], n), run([measurement(rate, 0.08)], n)) for n in range(7)]
    failing = compare_pairs(made)
    assert [one.kind for one in failing.findings] == ["failing"]
    assert failing.findings[0].cause.difference == pytest.approx(0.08)
