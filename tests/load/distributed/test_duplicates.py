"""A job id that two workers were given makes one of their operations fail."""

from itertools import chain
from typing import Any

import pytest

from loadtest.contract import Outcome, RequestKind
from loadtest.load.distributed.assignment import DuplicateJobIds
from loadtest.record.samples import Sample


def submit(arrival: int, job_id: str | None, outcome: Outcome = "ok", kind: RequestKind = "submit") -> Sample:
    """An answer to the submit of an arrival."""
    sample = Sample(row="request", traffic="jobs", operation="async_run", stage="s", outcome=outcome, kind=kind)
    sample.parent_arrival, sample.job_id = arrival, job_id
    return sample


def operation(arrival: int, outcome: Outcome = "ok", reason: str | None = None, **more: Any) -> Sample:
    """How the operation of an arrival ended."""
    sample = Sample(row="operation", traffic="jobs", operation="async_run", stage="s", outcome=outcome, **more)
    sample.arrival, sample.reason, sample.job_id = arrival, reason, "a"
    return sample


def ends(*batches: list[Sample]) -> dict[int, tuple[str, str | None]]:
    """How operations ended, given what comes to the master batch by batch."""
    duplicates, ended = DuplicateJobIds(), {}
    for sample in chain(*batches):
        duplicates.correct(sample)
        if sample.row == "operation":
            ended[sample.arrival or 0] = (sample.outcome, sample.reason)
    return ended


def test_the_later_one_has_failed() -> None:
    """Whether its end is told with its submit or later; everything else of the batches stays as it was."""
    failed = ("failed", "duplicate_job_id")
    first = [submit(0, "a"), operation(0), submit(2, "c")]
    assert ends(first, [submit(1, "a"), operation(1), operation(2)]) == {0: ("ok", None), 1: failed, 2: ("ok", None)}
    assert ends(first, [submit(1, "a")], [operation(1)], [operation(2)])[1] == failed


def test_ids_differ_or_come_again_in_what_is_no_accepted_submit() -> None:
    """Polls have the id of their job, and a submit that was refused has none."""
    told = [submit(0, "a"), submit(0, "a", kind="poll"), submit(1, None, "throttled"), submit(1, "b")]
    assert ends(told, [operation(0), operation(1)]) == {0: ("ok", None), 1: ("ok", None)}


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        (operation(1, "timed_out", "give_up"), ("timed_out", "give_up")),
        (operation(1, "failed", "duplicate_job_id"), ("failed", "duplicate_job_id")),
        (operation(1, mistake="invalid_body"), ("ok", None)),
    ],
)
def test_what_has_another_end_keeps_it(end: Sample, kept: tuple[str, str | None]) -> None:
    """As in one process: only an operation whose last answer was good fails by a contradiction."""
    assert ends([submit(0, "a"), operation(0)], [submit(1, "a"), end])[1] == kept
