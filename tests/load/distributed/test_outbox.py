"""What a worker recorded is sent whole, whenever a report is made."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.distributed.assignment import Outbox, unpacked
from loadtest.load.distributed.protocol import Batch
from loadtest.record.samples import Sample


def sample(number: int) -> Sample:
    """Any row."""
    return Sample(row="operation", traffic="t", operation="sync_run", stage="s", outcome="ok", arrival=number)


@given(st.lists(st.tuples(st.integers(1, 350), st.sets(st.integers(0, 6)), st.booleans()), max_size=8))
def test_nothing_is_lost_to_a_report_in_the_middle_of_packing(steps: list[tuple[int, set[int], bool]]) -> None:
    """Reports come at any pause of packing, and between batches: each row is in exactly one batch, and in order."""
    outbox, sent = Outbox(), dict[int, Batch]()

    def report() -> None:
        if (batch := outbox.take()) is not None:
            sent[batch.number] = batch
            outbox.acknowledged(batch.number)

    written = 0
    for rows, pauses, afterwards in steps:
        paused = iter(range(1000))

        def rest(paused: Iterator[int] = paused, pauses: set[int] = pauses) -> None:
            if next(paused) in pauses:
                report()

        outbox.write([sample(written + k) for k in range(rows)], rest)
        written += rows
        if afterwards:
            report()
    report()
    taken = [each.arrival for key in sorted(sent) for each in unpacked(sent[key])]
    assert taken == list(range(written))
    assert outbox.empty
