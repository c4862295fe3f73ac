"""A run's record after the first pass of the analysis: counts, times, and a table of sent requests."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from loadtest.analysis.anomalies import Anomalies, Errors
from loadtest.analysis.columns import OK, TIMED_OUT, StageKey, Stages, Vocabulary
from loadtest.analysis.consistency import Arrivals, Consistency
from loadtest.analysis.counts import FIRST, Counts, JobTracker, Means
from loadtest.analysis.distribution import Distribution, Distributions
from loadtest.analysis.reader import Visitor, scan
from loadtest.analysis.rejections import Expectation, SentRequests, expect, limiter_requests
from loadtest.analysis.rejections.logged_limits import LoggedLimit, logged_limit
from loadtest.analysis.times import NOT_FOUND, Slowest, TimeDistributions
from loadtest.arrays import Bools, Ints, NamedColumns
from loadtest.assumed_limits import AssumedLimits
from loadtest.contract import LIMIT_NAMES, Reason
from loadtest.errors import RecordError
from loadtest.limits.loads import RequestLog
from loadtest.record import run_directory, samples
from loadtest.record.run_info import RunInfo

_CLOCK_MARGIN_S: Final = 0.1
"""Seconds added to the clock's uncertainty, because the server decides after a request was sent."""
_NO_CLOCK_S: Final = 0.5


class Record:
    """A run's record. ``rows`` is the number of readable samples."""

    def __init__(self, directory: Path, info: RunInfo, on_progress: Callable[[int], None] | None = None) -> None:
        self.directory, self.info = directory, info
        self.vocabulary = vocabulary = Vocabulary(info)
        self.counts = Counts(vocabulary, info, self.assumed_limits)
        self.times, self.means = TimeDistributions(vocabulary), Means(vocabulary)
        self.sent, self.arrivals = SentRequests(), Arrivals(vocabulary)
        self.errors, self.anomalies, self.slowest = Errors(), Anomalies(), Slowest(vocabulary)
        self.consistency = Consistency(vocabulary, info)
        # The tracker needs up to 250 MB, so only its ledger is kept.
        jobs = JobTracker()
        visitors: list[Visitor] = [self.counts, self.times, self.means, self.sent, self.arrivals, self.errors]
        visitors += [self.anomalies, self.slowest, self.consistency, jobs]
        self.rows = scan(directory, vocabulary, visitors, on_progress)
        self.jobs, vocabulary.meaningful = jobs.result(), self.consistency.meaningful
        self.sent_requests = self.sent.table
        """The table of ``SentRequests``, set-up and warm-up included."""

    @cached_property
    def in_figures(self) -> Bools:
        """For each of ``sent_requests``, whether figures include it."""
        return np.asarray(self.vocabulary.in_figures[self.sent_requests["stage_index"]])

    @cached_property
    def deciding_requests(self) -> Ints:
        """Place in ``sent_requests`` of each operation's last request of kind run, submit or retrieve.

        The assumed limiter's decision on this request stands for the operation.
        """
        sent = self.sent_requests
        first = np.flatnonzero((sent["kind"] < FIRST) & ~np.isnan(sent["parent_arrival"]))
        traffic, arrival, start = (sent[name][first] for name in ("traffic", "parent_arrival", "start"))
        order = np.lexsort((start, arrival, traffic))
        ends = np.diff(traffic[order], append=-1) != 0
        ends |= np.diff(arrival[order], append=-1) != 0
        return np.asarray(first[order[ends]])

    @cached_property
    def limiter_requests(self) -> dict[str, list[RequestLog]]:
        """The requests of each assumed limiter, by the limit's name. Limiters without requests are absent."""
        return limiter_requests(self.sent_requests, self.vocabulary, self.info, self.assumed_limits)

    @cached_property
    def expectation(self) -> Expectation:
        """The decisions of the assumed limiter."""
        logs = [log for some in self.limiter_requests.values() for log in some]
        return expect(self.info, self.sent_requests, logs, self.clock)

    @cached_property
    def logged_limits(self) -> dict[str, LoggedLimit]:
        """Limits of an imported run, as the log shows them, by name."""
        source, spec = self.info.source, self.assumed_limits.spec
        if source is None:
            return {}
        found = self.limiter_requests.items()
        return {name: logged_limit(name, own, source, spec, self.clock) for name, own in found}

    @property
    def clock(self) -> tuple[float, float]:
        """The server's clock − the client's, and the uncertainty of a decision's time, in s."""
        clock = self.info.clock
        return (0.0, _NO_CLOCK_S) if clock is None else (clock.offset_s, clock.uncertainty_s + _CLOCK_MARGIN_S)

    @property
    def requests(self) -> NamedColumns:
        """Sent requests that figures include."""
        return self.sent_requests[self.in_figures]

    @cached_property
    def covered_s(self) -> float:
        """Length of the recorded part of the schedule, in s. A finished run covers all of it."""
        planned = max((s.end_s for t in self.info.traffic.values() for s in t.stages), default=0.0)
        if self.info.end == "finished":
            return planned
        if self.info.elapsed_s is not None:
            return min(planned, max(0.0, self.info.elapsed_s))
        # A killed run has no recorded end, so the latest start or end of a sample replaces it.
        return min(planned, max(0.0, self.arrivals.last / 1e9))

    @cached_property
    def assumed_limits(self) -> AssumedLimits:
        """The assumed limits. Fixed windows for each key and limit replace an invalid recorded limiter."""
        try:
            return AssumedLimits.recorded(self.info.target)
        except ValueError:
            given = {"limiter": "fixed-window", "burst": None, "count_rejected": False, "limit_scope": "key-and-name"}
            return AssumedLimits.recorded(msgspec.structs.replace(self.info.target, **given))

    def on_limit(self, limit: str) -> Ints:
        """Return the places of ``sent_requests`` that draw on a limit. All requests draw on the limit ``all``."""
        names = [LIMIT_NAMES.index(name) for name in self.assumed_limits.together(limit)]
        return np.flatnonzero(np.isin(self.sent_requests["limit"], names))

    def limits(self) -> list[str]:
        """Return the names of the assumed limits with at least one request, as ``on_limit`` takes them."""
        assumed = self.assumed_limits
        names = dict.fromkeys(assumed.drawn_on(name) for name in LIMIT_NAMES if name in assumed.limits)
        return [name for name in names if any(self.counts.requested(each) for each in assumed.together(name))]

    def quotas_on(self, limit: str) -> int:
        """Return the number of a limit's quotas. Each used key has a quota of its own, unless keys share one quota."""
        if limit in self.logged_limits and self.logged_limits[limit].shared:
            return 1
        keys: set[int] = set().union(*(self.counts.on_limit[each] for each in self.assumed_limits.together(limit)))
        return self.assumed_limits.quotas(max(1, len(keys)))

    def stages(
        self, *, traffic: str | None = None, operation: str | None = None, stage: str | None = None
    ) -> list[StageKey]:
        """Return the stages that figures include, in the order of the scenario. None stands for all."""
        found = [key for key in self.vocabulary.stage_keys if not key.stage.warmup and traffic in (None, key.traffic)]
        return [key for key in found if operation in (None, key.operation) and stage in (None, key.stage.name)]

    def stage_indices_of(self, traffic: str) -> list[int]:
        """Return the index of every stage of a traffic entry, the warm-up included."""
        return [key.place for key in self.vocabulary.stage_keys if key.traffic == traffic]

    def stage_indices(self, stages: Stages) -> list[int]:
        return [key.place for key in stages]

    @cached_property
    def not_found_entries(self) -> tuple[str, ...]:
        """Traffic entries whose ok operations all got an expected 404. No workflow ran for these operations."""
        stages = {name: self.stage_indices_of(name) for name in self.info.traffic}
        missing = {name: self.times[NOT_FOUND].get(indices).n for name, indices in stages.items()}
        return tuple(name for name, n in missing.items() if n and n == self.counts.ended(stages[name], OK))

    def response_times(self, traffic: str) -> Distributions:
        """Return an entry's response times by stage; for ``not_found_entries``, these are the times of 404s."""
        return self.times[NOT_FOUND] if traffic in self.not_found_entries else self.times["response_time_ms"]

    def cut_off(self, stages: Stages) -> int:
        """Return the number of operations that the end of the run cut off. Such operations also count as timed out."""
        (drain,) = self.vocabulary.codes("reason", [Reason.DRAIN])
        cells = self.counts.of_operations(self.stage_indices(stages))
        return sum(count for cell, count in cells.items() if cell.reason == drain and cell.outcome == TIMED_OUT)

    def time(self, name: str, stages: Stages) -> Distribution:
        """Return the distribution of a time over several stages. ``name`` is the time's key in ``times.FORMULAS``."""
        return self.times[name].get(self.stage_indices(stages))


def load_record(directory: Path, on_progress: Callable[[int], None] | None = None) -> Record:
    """Read a run directory's record. ``on_progress`` is called with the number of rows read so far.

    Raises:
        RecordError: if the directory cannot be read as a record.
    """
    samples.warm_up_without_pandas()
    info = run_directory.load(directory)
    if info.end_reason and not (directory / samples.FILE_NAME).is_file():
        why = f"the run was {info.end} before its first sample: {info.end_reason}"
        raise RecordError(f"{directory} has no record, because {why}", "Remove the cause, then run it again.")
    return Record(directory, info, on_progress)
