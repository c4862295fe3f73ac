"""A run against its history."""

import math
import re
import statistics

import msgspec
import pytest
from plugins.regression_parts import TARGET, N, jittered, key, measurement, plain, run
from scipy.special import stdtr

from loadtest.compare.measurements import Key, Metric, RunMeasurements
from loadtest.compare.results import MetricComparison, RunComparison
from loadtest.compare.rule import blind, improved_again, judge_history
from loadtest.compare.verdict import suspects

P50, P95 = key(Metric.RESPONSE_TIME_P50), key(Metric.RESPONSE_TIME_P95)
OTHER = key(Metric.RESPONSE_TIME_P50, "reports")
CALM = {P50: 120.0, P95: 180.0, OTHER: 60.0}
SLOWER = {P50: 150.0, P95: 181.0, OTHER: 60.5}


def of(comparison: RunComparison, metric: Metric, traffic: str = "greetings") -> MetricComparison:
    return next(one for one in comparison.metrics if (one.traffic, one.metric) == (traffic, metric))


@pytest.mark.parametrize(
    ("runs", "rest"),
    [(0, "Runs are judged after 4 more"), (3, "Runs are judged after 1 more"), (4, "The next run can be judged")],
)
def test_a_short_history_is_learning(runs: int, rest: str) -> None:
    """Below five runs nothing is judged, however slow the run is; it passes and says so."""
    judged = judge_history(jittered(CALM, runs), run({P50: 900.0, P95: 900.0, OTHER: 900.0}, 9))
    assert (judged.word, judged.exit_code) == ("learning", 0)
    assert f"{runs + 1} of 5 baseline runs" in judged.sentence
    assert judged.sentence.endswith(f"{rest}.")
    assert {one.verdict for one in judged.metrics} == {"learning"}
    assert not suspects(judged)


def test_an_unchanged_run_passes_and_says_what_it_would_have_found() -> None:
    judged = judge_history(jittered(CALM), run(CALM, 9))
    assert (judged.word, judged.exit_code) == ("pass", 0)
    assert re.fullmatch(
        r"No regression found in 3 metrics. A slow-down of [\d.]+ % or more would .*", plain(judged.sentence)
    )
    assert {one.verdict for one in judged.metrics} == {"unchanged"}
    assert all(one.detectable is not None and 1.05 < one.detectable < 1.2 for one in judged.metrics)


def test_what_would_have_been_found_is_in_ms_of_short_times() -> None:
    """Of 1 ms, the least effect is + 100 %: a percentage would say that the check is deaf."""
    short = key(Metric.RESPONSE_TIME_P95, "nothing")
    judged = judge_history(jittered({P50: 120.0, short: 0.9}), run({P50: 120.0, short: 0.9}, 9))
    assert re.search(r"of \d % \(1\.\d+ ms of short or polled times\) or more", plain(judged.sentence))
    only = judge_history(jittered({short: 0.9}), run({short: 0.9}, 9))
    assert re.search(r"of 1\.\d+ ms of short or polled times or more", plain(only.sentence))


def test_shares_without_any_event_are_no_tests() -> None:
    """Fifty error rates of nothing do not make the check less sharp."""
    silent = {key(Metric.ERROR_RATE, f"entry-{n}"): 0.0 for n in range(50)}
    alone, beside = (
        judge_history(jittered(values), run({**values, P50: 126.0}, 9)) for values in (CALM, {**CALM, **silent})
    )
    assert of(alone, P50.metric).p_adjusted == of(beside, P50.metric).p_adjusted
    assert of(alone, P50.metric).detectable == of(beside, P50.metric).detectable
    # With one error there is something to test.
    once = judge_history(
        jittered({**CALM, **silent}), run({**CALM, **silent, key(Metric.ERROR_RATE, "entry-0"): 1 / N, P50: 126.0}, 9)
    )
    assert (of(once, P50.metric).p_adjusted or 0) > (of(beside, P50.metric).p_adjusted or 1)


def test_a_slower_run_is_suspected_and_its_rerun_decides() -> None:
    """Exit 6 until the rerun, 4 if it is slower again, 0 if it is not."""
    history = jittered(CALM)
    first = judge_history(history, run(SLOWER, 9))
    assert (first.word, first.exit_code, first.confirmed) == ("inconclusive", 6, False)
    assert suspects(first) == (P50,)
    assert plain(first.sentence).startswith("greetings: response time p50 +30 ms (+25 %, 95 %: +")

    again = judge_history(history, run(SLOWER, 10), confirming=suspects(first))
    assert (again.word, again.exit_code, again.confirmed) == ("regressed", 4, True)
    assert of(again, P50.metric).verdict == "regressed"
    assert not suspects(again)

    gone = judge_history(history, run(CALM, 10), confirming=suspects(first))
    assert (gone.word, gone.exit_code, gone.confirmed) == ("pass", 0, True)
    assert gone.sentence.startswith("The rerun did not confirm the suspicion")


def test_only_the_same_metric_confirms() -> None:
    """A rerun in which another metric is slow does not make a regression."""
    slow_elsewhere = judge_history(jittered(CALM), run({**CALM, OTHER: 90.0}, 10), confirming=[P50])
    assert (slow_elsewhere.word, slow_elsewhere.exit_code) == ("pass", 0)


def test_a_rerun_that_cannot_measure_the_suspect_settles_nothing() -> None:
    judged = judge_history(jittered(CALM), run({P95: 180.0, OTHER: 60.0}, 10), confirming=[P50])
    assert (judged.word, judged.exit_code) == ("inconclusive", 6)
    assert "could not measure greetings: response time p50" in judged.sentence


def test_the_figures_follow_the_formula() -> None:
    """Recomputed here: s² of prior and history, SE = s·√(1/k + 1), one-sided Student t."""
    history = jittered({P50: 120.0, P95: 180.0}, 6, percent=6.0)
    judged = of(judge_history(history, run({P50: 140.0, P95: 180.0}, 9)), P50.metric)

    columns = [[math.log(one.by_key()[each].value) for one in history] for each in (P50, P95)]
    seen = [statistics.variance(column) for column in columns]
    prior = max(0.03**2, seen[0])
    variance = (4 * prior + 5 * seen[0]) / 9
    delta = math.log(140) - statistics.fmean(columns[0])
    assert judged.sd == pytest.approx(math.sqrt(variance))
    assert judged.ratio == pytest.approx(math.exp(delta))
    assert judged.p == pytest.approx(float(stdtr(9, -delta / math.sqrt(variance * (1 + 1 / 6)))))


@pytest.mark.parametrize("se", [None, 0.04])
def test_a_run_that_knows_less_of_itself_is_judged_less_sharply(se: float | None) -> None:
    """The standard error within runs widens the interval, times 1.3."""
    values = [measurement(each, value, se=se) for each, value in CALM.items()]
    judged = of(judge_history([run(values, n) for n in range(5)], run(values, 9)), P50.metric)
    prior = 0.03**2 + (1.3 * (se or 0.0)) ** 2
    # The weight of the prior: 4, and 4 degrees of freedom of the other entry with a similar time.
    assert judged.sd == pytest.approx(math.sqrt(prior * 8 / 12))


def test_one_odd_run_in_the_history_does_not_hide_a_change() -> None:
    """Values beyond 2.5 robust standard deviations are pulled in."""
    history = jittered(CALM)
    history[3] = run({P50: 400.0, P95: 600.0, OTHER: 200.0}, 3)
    judged = judge_history(history, run({each: 1.25 * value for each, value in CALM.items()}, 9))
    assert P50 in suspects(judged)


@pytest.mark.parametrize(
    ("metric", "before", "now", "resolution"),
    [
        (Metric.RESPONSE_TIME_P50, 1000.0, 1045.0, 0.0),  # less than 5 %
        (Metric.RESPONSE_TIME_P50, 0.5, 0.9, 0.0),  # less than 1 ms
        (Metric.TIME_TO_RESULT_P95, 1000.0, 1190.0, 200.0),  # hidden by the poll interval
        (Metric.ERROR_RATE, 0.0, 0.0009, 0.0),  # less than 0.1 points
        (Metric.ERROR_RATE, 0.05, 0.059, 0.0),  # less than one point and a factor of three
    ],
)
def test_what_does_not_matter_is_not_suspected(metric: Metric, before: float, now: float, resolution: float) -> None:
    def one(value: float, number: int) -> RunMeasurements:
        return run([measurement(key(metric), value, n=100_000, resolution_ms=resolution)], number)

    history = [one(before * (1 + 1e-4 * number), number) for number in range(20)]
    assert not suspects(judge_history(history, one(now, 30)))
    assert suspects(judge_history(history, one(5 * now + 0.02, 30)))


def test_a_single_error_in_a_small_run_is_no_regression() -> None:
    """1 of 40 after 0 of 200 happens by chance in one of six cases; a quarter failing does not."""
    error_rate = key(Metric.ERROR_RATE)

    def failing_run(errors: int, number: int) -> RunMeasurements:
        others = [measurement(key(Metric.ERROR_RATE, f"other-{n}"), 0.0, n=40) for n in range(3)]
        return run([measurement(error_rate, errors / 40, n=40), *others], number)

    history = [failing_run(0, number) for number in range(5)]
    assert not suspects(judge_history(history, failing_run(1, 9)))
    failing = judge_history(history, failing_run(10, 9))
    assert suspects(failing) == (error_rate,)
    assert failing.findings[0].kind == "failing"
    assert "error rate +25 points (from 0 % to 25 %, 95 %: +" in plain(failing.sentence)


def test_429s_are_compared_beyond_the_expected() -> None:
    """A run that met the window elsewhere has more 429s, and as many as were expected: unchanged."""
    rate = key(Metric.THROTTLED_RATE)
    history = [run([measurement(rate, 0.0, expected=0.46 + 0.01 * n)], n) for n in range(7)]
    same = judge_history(history, run([measurement(rate, 0.005, expected=0.60)], 9))
    assert same.word == "pass"
    more = judge_history(history, run([measurement(rate, 0.30, expected=0.40)], 9))
    assert more.findings[0].kind == "throttled"
    low, high = of(more, rate.metric).difference_interval or (0, 0)
    assert 0.05 < low < 0.3 < high < 0.5


def test_a_faster_run_improved() -> None:
    judged = judge_history(jittered(CALM), run({P50: 90.0, P95: 180.0, OTHER: 60.0}, 9))
    assert judged.word == "pass"
    assert of(judged, P50.metric).verdict == "improved"
    assert any(reason.startswith("Improved: greetings: response time p50") for reason in judged.reasons)


def test_goodput_attributes_and_is_not_tested() -> None:
    """Less of it has a cause among times, 429s and errors, where it costs the other tests nothing."""
    goodput = key(Metric.GOODPUT)
    judged = judge_history(jittered({**CALM, goodput: 25.0}), run({**SLOWER, goodput: 19.0}, 9))
    assert suspects(judged) == (P50,)
    assert [one.metric for one in judged.findings[0].symptoms] == [goodput.metric]
    assert (of(judged, goodput.metric).gated, of(judged, goodput.metric).p_adjusted) == (False, None)


def test_a_period_that_keeps_the_noise_learns_only_its_centre() -> None:
    """After a gain of 20 %, two nights suffice to find that it is lost; without the earlier noise it is learning."""
    before = jittered(CALM)
    faster = [run({each: 0.8 * value for each, value in CALM.items()}, number) for number in (7, 8)]
    lost = run(CALM, 9)
    assert judge_history(faster, lost).word == "learning"
    judged = judge_history(faster, lost, noise=before)
    assert P50 in suspects(judged)
    assert "1 of 2 baseline runs" in judge_history([], lost, noise=before).sentence
    again = judge_history(faster, run(CALM, 10), confirming=suspects(judged), noise=before)
    assert (again.word, again.exit_code) == ("regressed", 4)


def test_an_improvement_counts_when_it_shows_again() -> None:
    """Twice in a row and in the same metric: once is chance."""
    before = jittered(CALM)
    faster, other = ({**CALM, each: 0.7 * CALM[each]} for each in (P50, OTHER))
    assert improved_again([*before, run(faster, 8)], run(faster, 9)) == (P50,)
    assert not improved_again([*before, run(faster, 8)], run(CALM, 9))
    assert not improved_again([*before, run(faster, 8)], run(other, 9))
    assert not improved_again([*before[:4], run(faster, 8)], run(faster, 9))


def test_a_check_that_cannot_find_what_it_must_is_no_pass() -> None:
    """It ends with 6 and names the entries; below ten runs, and for what is too short to see, it ends as ever."""
    values = {P50: 120.0, key(Metric.RESPONSE_TIME_P50, "short"): 2.0}
    history = jittered(values, 12, percent=10.0)
    judged = judge_history(history, run(values, 20))
    assert judged.word == "pass"
    missed = blind(judged, 0.2)
    assert (missed.word, missed.exit_code) == ("inconclusive", 6)
    assert missed.sentence.startswith("This check could not have found +20 %: its minimum detectable changes are +")
    assert any("too small to see in short" in reason for reason in missed.reasons)
    assert blind(judged, 3.0) == judged
    early = judge_history(history[:9], run(values, 20))
    assert blind(early, 0.2) == early


@pytest.mark.parametrize(("head", "polled_ms"), [({P95: 180.0}, 0.0), ({P50: 120.0, P95: 180.0}, 100.0)])
def test_a_check_that_sees_no_median_is_no_pass(head: dict[Key, float], polled_ms: float) -> None:
    """A p50 that the run lacks counts as missed, and polls that hide every p50 leave nothing to see the growth in."""

    def polled(one: RunMeasurements) -> RunMeasurements:
        hidden = [
            msgspec.structs.replace(each, resolution_ms=polled_ms if each.key == P50 else 0.0)
            for each in one.measurements
        ]
        return msgspec.structs.replace(one, measurements=tuple(hidden))

    judged = judge_history([polled(one) for one in jittered({P50: 120.0, P95: 180.0}, 12)], polled(run(head, 20)))
    assert judged.word == "pass"
    assert (blind(judged, 0.2).word, blind(judged, 0.2).exit_code) == ("inconclusive", 6)
    assert not any("Not measured" in reason for reason in judged.reasons if P50 in head), "no run states executionTime"


def test_a_rerun_without_the_suspected_metric_decides_nothing() -> None:
    """Also if most earlier runs lack the metric."""
    new = key(Metric.RESPONSE_TIME_P50, "new")
    history = [
        *jittered(CALM, 8),
        *(msgspec.structs.replace(one, run=f"{one.run}b") for one in jittered({**CALM, new: 50}, 6)),
    ]
    asked = suspects(judge_history(history, run({**CALM, new: 90.0}, 30)))
    assert asked == (new,)
    judged = judge_history(history, run(CALM, 31), confirming=asked)
    assert (judged.word, judged.exit_code) == ("inconclusive", 6)
    assert "could not measure new: response time p50" in judged.sentence


def test_a_change_of_python_is_shown_and_may_refuse() -> None:
    """Beside a verdict as a possible cause; with ``same`` it makes runs incomparable. Unknown matches anything."""
    old = [msgspec.structs.replace(one, versions={"python": "3.11"}) for one in jittered(CALM)]
    new = run(SLOWER, 9, versions={"python": "3.12"})
    strict = msgspec.structs.replace(new, same=("python",))
    assert "The python changed, too: 3.11 before, 3.12 now." in judge_history(old, new).reasons
    assert judge_history(old, strict).word == "not comparable"
    assert judge_history(jittered(CALM), strict).word == "inconclusive"


def test_a_changed_definition_of_a_metric_refuses_it_alone() -> None:
    """Values by another definition are no evidence; the other metrics are judged as before."""
    new = run(SLOWER, 9)
    changed = tuple(msgspec.structs.replace(one, definition=1 + (one.key == P50)) for one in new.measurements)
    judged = judge_history(jittered(CALM), msgspec.structs.replace(new, measurements=changed))
    refused = {one.key for one in judged.metrics if one.verdict == "learning"}
    assert refused == {P50}
    assert any("present definition" in one.why for one in judged.metrics)
    assert judged.word == "pass", "the others are judged all the same"


def test_slow_drift_is_found_against_the_first_runs() -> None:
    """0.7 % from run to run is never seen against the latest twenty, which drift along."""
    history = [run({P50: 100 * 1.007**number}, number) for number in range(40)]
    judged = judge_history(history, run({P50: 100 * 1.007**40}, 41))
    assert suspects(judged) == (P50,)
    assert of(judged, P50.metric).drift
    assert any(reason.startswith("Slow drift: ") for reason in judged.reasons)
    steady = [run({P50: 100 * 1.007 ** (number % 3)}, number) for number in range(40)]
    assert not suspects(judge_history(steady, run({P50: 101.0}, 41)))


def test_a_sudden_change_is_found_after_a_slow_improvement() -> None:
    """The latest runs are a baseline, too: against the first ones alone it would hide."""
    history = [run({P50: 150 * 0.99**number}, number) for number in range(30)]
    judged = judge_history(history, run({P50: 1.25 * 150 * 0.99**29}, 31))
    assert suspects(judged) == (P50,)
    assert not of(judged, P50.metric).drift


def test_not_comparable_names_the_field() -> None:
    moved = msgspec.structs.replace(TARGET, limits="100 per 60 s")
    judged = judge_history(jittered(CALM), run(CALM, 9, target=moved))
    assert (judged.word, judged.exit_code) == ("not comparable", 3)
    assert "assumed limits differs: fixed window before, 100 per 60 s now" in judged.sentence
    assert not judged.metrics
    assert judged.base == "7 accepted runs, 2026-01-01 to 2026-01-07, none of them comparable"
    assert judged.head == "run-009, 2026-01-10 02:00 UTC, against https://flow.example"


def test_runs_that_are_not_comparable_are_no_evidence() -> None:
    """Two runs since the limits changed are two runs, whatever came before."""
    moved = msgspec.structs.replace(TARGET, limits="100 per 60 s")
    history = [*jittered(CALM), run(CALM, 8, target=moved), run(CALM, 9, target=moved)]
    judged = judge_history(history, run(SLOWER, 10, target=moved))
    assert judged.word == "learning"
    assert "3 of 5" in judged.sentence


def test_an_invalid_run_says_nothing_of_the_service() -> None:
    judged = judge_history(jittered(CALM), run(SLOWER, 9, valid=False, sentence="dispatch lag p99 was 80 ms"))
    assert (judged.word, judged.exit_code) == ("invalid", 3)
    assert "80 ms" in judged.sentence


def test_invalid_runs_are_no_evidence() -> None:
    history = [msgspec.structs.replace(one, valid=False) for one in jittered(CALM, 3)] + jittered(CALM, 4)
    assert judge_history(history, run(SLOWER, 9)).word == "learning"


def test_what_is_shown_only_is_not_judged() -> None:
    """A metric that n cannot carry is there with its reason, and no verdict rests on it."""
    history = jittered(CALM)
    few = [measurement(P50, 400.0, gated=False, why_not="too few samples: 5"), measurement(P95, 180.0)]
    judged = judge_history(history, run(few, 9))
    assert judged.word == "pass"
    shown = of(judged, P50.metric)
    assert (shown.gated, shown.p, shown.why) == (False, None, "too few samples: 5")
    assert shown.base == pytest.approx(120, rel=0.01)
    assert any("Not measured in this run" in reason and "reports" in reason for reason in judged.reasons)


@pytest.mark.parametrize("values", [[], [measurement(P50, 400.0, gated=False, why_not="too few samples: 5")]])
def test_a_run_that_carries_nothing_is_inconclusive(values: list) -> None:
    judged = judge_history(jittered(CALM), run(values, 9))
    assert (judged.word, judged.exit_code) == ("inconclusive", 6)


@pytest.mark.parametrize("value", [math.inf, math.nan, 1.5e308])
def test_impossible_values_are_not_compared(value: float) -> None:
    strange = [msgspec.structs.replace(measurement(P50, 100.0), value=value, score=math.log(value))]
    judged = judge_history(jittered(CALM), run([*strange, measurement(P95, 180.0)], 9))
    assert judged.word == "pass"
    assert (of(judged, P50.metric).gated, of(judged, P50.metric).why) == (False, "its value is out of range, or zero")
