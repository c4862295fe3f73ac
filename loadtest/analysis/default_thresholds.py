"""Default thresholds: each entry needs an ok operation, and few operations of a stage may fail unexpectedly."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from loadtest.analysis.columns import FAILED, THROTTLED, TIMED_OUT, Vocabulary
from loadtest.analysis.metrics import RunFigures
from loadtest.analysis.reader import Chunk
from loadtest.analysis.run_record import Record
from loadtest.analysis.verdict import Judged, judged_by, thresholds_of, unexpected_errors
from loadtest.arrays import Floats
from loadtest.contract import THROTTLED_STATUS, Reason
from loadtest.record.effective_scenario import written_entry
from loadtest.record.run_info import RunInfo
from loadtest.threshold import Threshold, parse_threshold
from loadtest.words import counted

_LEAST: Final = 3
"""A stage fails only if it has at least this many unexpected errors."""
_REPLACING: Final = frozenset({"error_rate", "operations.ok", "operations.failed", "operations.timed_out"})
"""A written threshold for one of these metrics replaces ``unexpected_errors`` in its scope."""


class UnexpectedErrors:
    """Counts the sent operations that failed or timed out unexpectedly, by the index of their stage.

    An error is expected if the stage's ``expect`` lists its last status. An error
    after a 429 is also expected if its reason is ``give_up`` or ``drain``.
    """

    def __init__(self, vocabulary: Vocabulary, info: RunInfo) -> None:
        self.by_stage: Counter[int] = Counter()
        self._expected = [
            sorted(written_entry(info, traffic).expected_in(stage.name)) for traffic, stage, *_ in vocabulary.stage_keys
        ]
        self._waited = vocabulary.codes("reason", [Reason.GIVE_UP, Reason.DRAIN])
        self._throttled: list[Floats] = [np.zeros(0) for _ in vocabulary.entries]
        """Arrivals in flight that got a 429, by entry."""

    def add(self, chunk: Chunk) -> None:
        entry_of = chunk.vocabulary.entry_of
        for stage, rows in chunk.requests.by_stage:
            if (rejected := rows.words("outcome") == THROTTLED).any():
                known = self._throttled[entry_of[stage]]
                self._throttled[entry_of[stage]] = np.union1d(known, rows.floats("parent_arrival")[rejected])
        for stage, rows in chunk.operations.by_stage:
            throttled = self._throttled[entry_of[stage]]
            errors = rows.sent.where(np.isin(rows.sent.words("outcome"), (FAILED, TIMED_OUT)))
            if len(errors):
                expected = np.isin(errors.words("reason"), self._waited)
                expected &= np.isin(errors.floats("arrival"), throttled)
                expected |= np.isin(errors.floats("status"), self._expected[stage])
                self.by_stage[stage] += int(np.count_nonzero(~expected))
            if len(throttled):
                self._throttled[entry_of[stage]] = np.setdiff1d(throttled, rows.floats("arrival"))


def default_thresholds(record: Record, metrics: RunFigures, errors: UnexpectedErrors) -> list[Judged]:
    """Return the failed default thresholds of a finished run. A run without any success must not pass."""
    if record.info.end != "finished" or record.info.imported:
        return []
    dead = {
        name: figures.operations.offered
        for name, figures in metrics.traffic.items()
        if figures.operations.sent
        and not figures.operations.ok
        # An entry is exempt if every stage expects only 429.
        and {stage.expect for stage in written_entry(record.info, name).stages} != {(THROTTLED_STATUS,)}
    }
    require = parse_threshold("operations.ok > 0")
    return [
        *(
            _failed(replace(require, traffic=name), 0.0, offered, f"no operation was ok ({offered:,} offered)")
            for name, offered in dead.items()
        ),
        *(one for one in _too_many(record, metrics, errors) if one.traffic not in dead),
    ]


def _too_many(record: Record, metrics: RunFigures, errors: UnexpectedErrors) -> Iterator[Judged]:
    """Yield a failed threshold for each stage with more unexpected errors than the scenario allows."""
    allowed = unexpected_errors(record.info)
    if allowed is None:
        return
    written = [each for each in thresholds_of(record.info) if each.metric in _REPLACING]
    percent = f"{allowed * 100:g}"
    require = parse_threshold(f"error_rate <= {percent}%")
    for name, stage, operation, index in record.stages():
        count, sent = errors.by_stage[index], metrics.traffic[name].stages[stage.name].operations.sent
        excused = any(each.covers(name, operation, stage.name) for each in written)
        if count >= _LEAST and count / sent > allowed and not excused:
            failed = f"{count:,} of {counted(sent, 'operation')} failed or timed out"
            why = f"{failed}; unexpected_errors allows {percent}\u00a0%"
            yield _failed(replace(require, traffic=name, stage=stage.name), count / sent, sent, why)


def _failed(threshold: Threshold, value: float, n: int, why: str) -> Judged:
    margin = -abs(value - threshold.value) or 0.0  # JSON has a negative zero.
    return judged_by(threshold)(judgement="fail", value=value, margin=margin, n=n, why=why, implicit=True)
