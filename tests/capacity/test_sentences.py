"""What a search says at its end."""

import msgspec
import pytest

from loadtest.capacity.results import Constraint, Level, LimitLevel
from loadtest.capacity.sentences import EarlyStop, Offered, answer, paced, reasons
from loadtest.contract import LimitName, Operation
from loadtest.errors import ExitCode
from loadtest.plan import AssumedLimits
from loadtest.scenario import Scenario
from tests.capacity.test_search import level

ENFORCED = {"sync_run": "10/s", "async_submit": "50/s", "retrieval": "60/s"}


def assumed(limits: dict[str, str]) -> AssumedLimits:
    """What an embedded target with these limits is assumed to enforce."""
    stages = [{"name": "it", "rate": "1/s", "duration": "9s"}]
    runs = {"operation": "sync_run", "workflow": "echo", "stages": stages}
    written = {"title": "t", "target": {"enforce": limits}, "traffic": {"runs": runs}}
    return AssumedLimits.for_scenario(Scenario.model_validate(written), embedded=True)


ASSUMED = assumed(ENFORCED)
RUNS = Offered({"runs": 1.0}, {"runs": Operation.SYNC_RUN}, ASSUMED, 1)
JOBS = Offered({"runs": 1.0}, {"runs": Operation.ASYNC_RUN}, ASSUMED, 1)


def polled(multiplier: float, polls: float) -> Level:
    """A level of jobs of 700 ms that need so many polls, which are refused above 20 a second."""
    made = level(multiplier, 20.0)
    entry = msgspec.structs.replace(made.entries["runs"], requests_per_operation=1 + polls, execution_p50_ms=700.0)
    stopped = (Constraint.POLL_BUDGET, LimitName.RETRIEVAL) if made.constraint else (None, None)
    return msgspec.structs.replace(made, entries={"runs": entry}, constraint=stopped[0], limit=stopped[1])


def test_polls_that_spend_the_limit_come_with_what_fewer_would_allow() -> None:
    """Three polls a job at 60 a second are 1,200 jobs a minute; one each would be 3,600: submits allow 3,000."""
    levels = [polled(19.2, 3.0), polled(20.8, 3.0)]
    found = answer(levels, (), JOBS, None)
    assert found.code is ExitCode.PASS
    assert found.sentence.startswith(
        "About 1,199 jobs a minute: above it polls (3.0 a job) exhaust the retrieval limit"
    )
    assert (
        "or at intervals above executionTime (p50 700 ms), one poll per job is enough: at most 3,000 jobs"
        in found.sentence
    )
    assert paced([polled(19.2, 1.0)], JOBS) == ""


@pytest.mark.parametrize(
    ("levels", "offered", "words"),
    [
        ([level(9.0, 10.0)], RUNS, "600 a minute as sync runs and as jobs at most 3,000, with one poll each. Jobs"),
        (
            [polled(19.2, 3.0)],
            JOBS,
            "600 a minute as sync runs and as jobs at most 1,200, with 3.0 polls each. Jobs",
        ),
    ],
)
def test_the_break_even_of_both_forms_is_said(levels: list[Level], offered: Offered, words: str) -> None:
    """The polls that a job may need before sync runs carry more: 60 retrievals a second to 10 runs."""
    (said,) = [each for each in reasons(levels, offered, None) if each.startswith("The same work")]
    assert words in said
    assert said.endswith("if each needs fewer than 6 polls.")


def test_jobs_that_can_never_carry_more_have_no_break_even() -> None:
    """Every job needs a poll: where retrievals are as few as sync runs, there is no number of polls below which."""
    few = Offered({"runs": 1.0}, {"runs": Operation.SYNC_RUN}, assumed(ENFORCED | {"retrieval": "10/s"}), 1)
    (said,) = [each for each in reasons([level(9.0, 10.0)], few, None) if each.startswith("The same work")]
    assert said.endswith(
        "600 a minute as sync runs and as jobs at most 600, with one poll each: jobs never allow more."
    )


def test_a_limit_that_was_used_up_without_a_refusal_is_named() -> None:
    """Where nothing stopped more, 9.5 of 10 runs a second are said; 8 are not."""
    for rate, said in ((9.5, True), (8.0, False)):
        used = {LimitName.SYNC_RUN: LimitLevel(sent_rate=rate, throttled_rate=0.0)}
        found = reasons([msgspec.structs.replace(level(rate, 10.0), limits=used)], RUNS, None)
        assert ("95\u00a0% of the sync_run limit of 600 a minute was used" in " ".join(found)) is said


def test_answers_of_503_are_said_where_requests_fail() -> None:
    """A service that is full and one that throttles with 503 look alike: who tells is named."""

    def failing(rate: float) -> str:
        made = level(10.5, 10.0)
        entry = msgspec.structs.replace(made.entries["runs"], error_rate=rate, unavailable_rate=rate)
        broken = msgspec.structs.replace(made, constraint=Constraint.ERRORS, limit=None, entries={"runs": entry})
        return answer([broken, level(9.8, 10.0)], (), RUNS, None).sentence

    assert (
        "without any 429 (at 10.5 times its rate: throttled_rate == 0); 5.0\u00a0% of the requests got 503: either the "
        "service was full, or it throttles with 503" in failing(0.05)
    )
    assert "503" not in failing(0.0)


@pytest.mark.parametrize("code", [ExitCode.ABORTED, ExitCode.TARGET, ExitCode.INTERRUPTED])
def test_a_search_that_is_stopped_says_what_it_knows(code: ExitCode) -> None:
    """What holds, why no more was tried, and which rates never were; the exit code is that of what stopped it."""
    levels = [level(1.0, 10.0), level(2.0, 10.0)]
    found = answer(levels, (), RUNS, EarlyStop("the next run came to no end", code))
    assert (found.multiplier, found.code) == (None, code)
    assert found.sentence.startswith("At least 120 sync runs a minute")
    assert "no faster run was judged; the next run came to no end" in found.sentence
    assert "Not tried: below 60 sync runs a minute and above 120 sync runs a minute." in reasons(levels, RUNS, None)
    assert "Not tried: any rate except 60 sync runs a minute." in reasons(levels[:1], RUNS, None)
    scout = msgspec.structs.replace(levels[1], scout=True)
    assert "Not tried for a whole stage: any rate except 60 sync runs a minute." in reasons(
        [levels[0], scout], RUNS, None
    )
    # What was known before the stop is an answer.
    assert answer([level(9.6, 10.0), level(10.4, 10.0)], (), RUNS, EarlyStop("no more", code)).code is ExitCode.PASS


def test_a_bracket_whose_lower_end_is_the_older_one_is_no_answer() -> None:
    """The service may have become slower after the lower rate held."""
    slower = msgspec.structs.replace(level(3.1, 3.0), constraint=Constraint.SERVICE, limit=None)
    found = answer([level(2.9, 3.0), slower], (), RUNS, EarlyStop("--max-runs 2 were made", ExitCode.INCONCLUSIVE))
    assert found.multiplier is None
    assert (
        "can't tell: 2.9 times the scenario's rate passed before 3.1 times failed, and was not tried again"
        in found.sentence
    )


def test_a_generator_that_was_late_at_every_rate_makes_the_search_invalid() -> None:
    """Exit code 3, as of a run: nothing is known of the service."""
    late = msgspec.structs.replace(level(1.0, 0.5), outcome="invalid", constraint=Constraint.GENERATOR, limit=None)
    assert answer([late, late], (), RUNS, None).code is ExitCode.INVALID
