"""The sentences at the end of a search."""

from dataclasses import replace

import msgspec
import pytest

from loadtest.capacity.results import Constraint, Guess, Level, LimitLevel
from loadtest.capacity.search import RateRange
from loadtest.capacity.sentences import EarlyStopError, Offered, answer, paced, reasons
from loadtest.contract import LimitName, Operation
from loadtest.errors import ExitCode
from loadtest.plan import AssumedLimits
from loadtest.scenario import Scenario
from tests.capacity.test_search import level, waiting

ENFORCED = {"sync_run": "10/s", "async_submit": "50/s", "retrieval": "60/s"}


def assumed(limits: dict[str, str]) -> AssumedLimits:
    """The assumed limits of an embedded target."""
    stages = [{"name": "it", "rate": "1/s", "duration": "9s"}]
    runs = {"operation": "sync_run", "workflow": "echo", "stages": stages}
    written = {"title": "t", "target": {"enforce": limits}, "traffic": {"runs": runs}}
    return AssumedLimits.of_embedded(Scenario.model_validate(written))


ASSUMED = assumed(ENFORCED)
EXPECTED = Guess(multiplier=10.0, constraint=Constraint.LIMIT, limit=LimitName.SYNC_RUN)
RUNS = Offered({"runs": 1.0}, {"runs": Operation.SYNC_RUN}, ASSUMED, 1, (EXPECTED,))
WIDE = RateRange(8.0, 10.0, 12.0)
JOBS = Offered({"runs": 1.0}, {"runs": Operation.ASYNC_RUN}, ASSUMED, 1)


def polled(multiplier: float, polls: float) -> Level:
    """A level of jobs of 700 ms that need so many polls, which are refused above 20 a second."""
    made = level(multiplier, 20.0)
    limits = {LimitName.RETRIEVAL: LimitLevel(sent_rate=60.0, throttled_rate=0.1)}
    entry = msgspec.structs.replace(made.entries["runs"], requests_per_operation=1 + polls, execution_p50_ms=700.0)
    stopped = (Constraint.POLL_BUDGET, LimitName.RETRIEVAL) if made.constraint else (None, None)
    return msgspec.structs.replace(
        made, entries={"runs": entry}, limits=limits, constraint=stopped[0], limit=stopped[1]
    )


def test_polls_that_spend_the_limit_come_with_what_fewer_would_allow() -> None:
    """Three polls a job at 60 a second are 1,200 jobs a minute; one each would be 3,600: submits allow 3,000."""
    levels = [polled(19.2, 3.0), polled(20.8, 3.0)]
    found = answer(levels, RateRange(19.5, 20, 20.5), JOBS, None)
    assert found.code is ExitCode.PASS
    assert found.sentence.startswith(
        "1,170 to 1,230 jobs a minute: above it polls (3.0 a job) exhaust the retrieval limit"
    )
    assert (
        "or at intervals above executionTime (p50 700 ms), one poll per job is enough: at most 3,000 jobs"
        in found.sentence
    )
    assert paced([polled(19.2, 1.0)], JOBS) == ""
    # If jobs that wait need these polls, the service is the bottleneck.
    waits = msgspec.structs.replace(levels[1], constraint=Constraint.SERVICE, limit=None)
    assert "and retrieval requests get 429" in answer([levels[0], waits], WIDE, JOBS, None).sentence


@pytest.mark.parametrize(
    ("levels", "offered", "words"),
    [
        ([level(9.0, 10.0)], RUNS, "accept 600 sync runs a minute and at most 3,000 jobs with one poll each. Jobs"),
        (
            [polled(19.2, 3.0)],
            JOBS,
            "accept 600 sync runs a minute and at most 1,200 jobs with 3.0 polls each. Jobs",
        ),
    ],
)
def test_the_break_even_of_both_forms_is_said(levels: list[Level], offered: Offered, words: str) -> None:
    """The polls that a job may need before sync runs carry more: 60 retrievals a second to 10 runs."""
    (said,) = [each for each in reasons(levels, offered, None) if each.startswith("For the same work")]
    assert words in said
    assert said.endswith("if each needs fewer than 6 polls.")


def test_jobs_that_can_never_carry_more_have_no_break_even() -> None:
    """Every job needs a poll: where retrievals are as few as sync runs, there is no number of polls below which."""
    few = Offered({"runs": 1.0}, {"runs": Operation.SYNC_RUN}, assumed(ENFORCED | {"retrieval": "10/s"}), 1)
    (said,) = [each for each in reasons([level(9.0, 10.0)], few, None) if each.startswith("For the same work")]
    assert said.endswith("600 sync runs a minute and at most 600 jobs with one poll each. Jobs never allow more.")


def test_a_limit_that_was_used_up_without_a_refusal_is_named() -> None:
    """Without a bottleneck, a note names 9.5 of 10 runs a second, but not 8."""
    for rate, said in ((9.5, True), (8.0, False)):
        used = {LimitName.SYNC_RUN: LimitLevel(sent_rate=rate, throttled_rate=0.0)}
        found = reasons([msgspec.structs.replace(level(rate, 10.0), limits=used)], RUNS, None)
        assert ("95\u00a0% of the sync_run limit of 600 a minute was used" in " ".join(found)) is said


def test_answers_of_503_are_said_where_requests_fail() -> None:
    """A full service and throttling with 503 look alike: the sentence names the probe."""

    def failing(rate: float) -> str:
        made = waiting(10.5, 10.0)
        entry = msgspec.structs.replace(made.entries["runs"], error_rate=rate, unavailable_rate=rate)
        broken = msgspec.structs.replace(made, constraint=Constraint.ERRORS, limit=None, entries={"runs": entry})
        return reasons([broken, level(9.8, 10.0)], RUNS, broken)[0]

    assert (
        "At 630 sync runs a minute, throttled_rate == 0 did not hold. 5.0\u00a0% of the requests got 503: either the "
        "service was full, or it throttles with 503" in failing(0.05)
    )
    assert "503" not in failing(0.0)


@pytest.mark.parametrize("code", [ExitCode.ABORTED, ExitCode.TARGET, ExitCode.INTERRUPTED])
def test_a_search_that_is_stopped_says_what_it_knows(code: ExitCode) -> None:
    """The rate that holds, the reason for the end, the untested rates, and the exit code of that reason."""
    levels = [level(1.0, 10.0), level(2.0, 10.0)]
    found = answer(levels, WIDE, RUNS, EarlyStopError("the next run came to no end", code))
    assert (found.range, found.code) == (None, code)
    assert found.sentence.startswith("At least 120 sync runs a minute")
    assert "no faster run was judged; the next run came to no end" in found.sentence
    assert "Not tried: below 60 sync runs a minute and above 120 sync runs a minute." in reasons(levels, RUNS, None)
    assert "Not tried: any rate except 60 sync runs a minute." in reasons(levels[:1], RUNS, None)
    # A range that was known before the stop is stated; the budget's end does not change that it is an answer.
    late = answer([level(9.6, 10.0), level(10.4, 10.0)], WIDE, RUNS, EarlyStopError("no more", code))
    assert (late.range, late.code) == (WIDE, ExitCode.PASS if code is ExitCode.ABORTED else code)


@pytest.mark.parametrize("limit", ["--max-runs 2 is reached", "--max-requests 20,000 is reached"])
def test_a_planned_end_is_an_answer(limit: str) -> None:
    """A wide range is an answer, and the sentence says which option made it wide."""
    found = answer([level(9.6, 10.0), level(10.4, 10.0)], WIDE, RUNS, EarlyStopError(limit, ExitCode.INCONCLUSIVE))
    assert found.code is ExitCode.PASS
    assert limit in found.sentence
    assert "50\u00a0% wide, and more runs (--minutes) narrow it" in found.sentence


def test_429s_far_below_the_assumed_limit_are_the_finding() -> None:
    """The sentence has their rate, the assumed limit and the probe; the notes omit the break-even of assumed limits."""
    expected = (msgspec.structs.replace(EXPECTED, multiplier=30.0),)
    lower = replace(RUNS, expected=expected, probe="loadtest probe --target mine")
    levels = [level(9.6, 10.0), level(10.4, 10.0)]
    found = answer(levels, RateRange(9.6, 10, 10.4), lower, None)
    assert found.sentence.startswith("576 to 624 sync runs a minute: 429s begin at 600 a minute, not 600: a lower")
    assert "`loadtest probe --target mine sync_run --documented sync_run=10/1s` tells more" in found.sentence
    notes = reasons(levels, lower, levels[1])
    assert notes[0].startswith(
        "At 624 sync runs a minute, throttled_rate == 0 did not hold; 3.8\u00a0% of the sync_run"
    )
    assert not any(each.startswith("For the same work") for each in notes)
    assert "rejects" in answer(levels, RateRange(9.6, 10, 10.4), RUNS, None).sentence


def test_a_threshold_that_fails_at_any_rate_is_named() -> None:
    """Times that half of the rate does not shorten are the service's own."""
    found = answer([waiting(1.0, 402.0), waiting(0.5, 400.0)], WIDE, RUNS, None)
    assert (found.range, found.code) == (None, ExitCode.INCONCLUSIVE)
    assert "throttled_rate == 0 fails at every rate: equally at 0.5 and 1 times the scenario's rate" in found.sentence
    assert "times 400 ms and 402 ms" in found.sentence.replace("\u00a0", " ")
    assert "longer duration" not in found.sentence


def test_a_failure_far_below_a_pass_is_noted() -> None:
    """The service changed, or it was chance."""
    notes = reasons([level(9.0, 10.0), level(5.0, 4.0)], RUNS, None)
    assert "9 times the scenario's rates passed, but 5 times failed" in notes[0]


def test_a_generator_that_was_late_at_every_rate_makes_the_search_invalid() -> None:
    """Exit code 3, as of a run: nothing is known of the service."""
    late = msgspec.structs.replace(level(1.0, 0.5), outcome="invalid", constraint=Constraint.GENERATOR, limit=None)
    assert answer([late, late], WIDE, RUNS, None).code is ExitCode.INVALID
