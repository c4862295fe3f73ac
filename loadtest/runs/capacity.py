"""Search for a capacity by runs at different rates with fresh seeds, until the capacity's range is narrow."""

import math
import time
from bisect import bisect_left
from contextlib import nullcontext
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final

import numpy as np

from loadtest.assumed_limits import CONCURRENCY
from loadtest.capacity import search, sentences
from loadtest.capacity.results import Capacity, Guess, Level, read_level, save
from loadtest.capacity.sentences import EarlyStopError
from loadtest.contract import LIMITS_OF_OPERATION, LimitName, Operation
from loadtest.credentials import api_keys
from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.plan import Question
from loadtest.prepare import assumed_limits_of, planned_traffic
from loadtest.processes import interrupt_on_terminate, make_report, run_module
from loadtest.program import command_line, mention
from loadtest.record import run_directory
from loadtest.runs.run import load_target
from loadtest.runs.target import ResolvedTarget, ScenarioOptions, over_budget, prepare, resolved_target
from loadtest.scenario import LoadedScenario, at_rate, with_stage_alone
from loadtest.targets import ChosenTarget, check_reachable
from loadtest.words import percent

_FOLDER: Final = "levels"
_LEVELS: Final = 10
"""Default maximum number of levels."""
_NARROW: Final = search.Precision(0.04, repeats=True)
"""Wanted precision with --minutes."""


def find_capacity(*, plan_only: bool, output_dir: Path, **given: Any) -> int:
    """Find the highest rate that meets a scenario's thresholds, and return the exit code.

    ``given`` are parameters of ``_Search`` and fields of ``ScenarioOptions``. Raises ``LoadtestError`` if the first
    run could not start.
    """
    seeking = _Search(**given)
    print(seeking.plan(), flush=True)
    if plan_only:
        return int(ExitCode.PASS)
    interrupt_on_terminate()
    directory = run_directory.new_run_directory(output_dir, f"capacity-{seeking.loaded.name}")
    found = seeking.run(directory)
    save(found, directory)
    print(*found.reasons, f"All runs are in {directory}.", sep="\n", flush=True)
    run_module("loadtest.report.capacity", str(directory))
    print(found.sentence, flush=True)
    return found.exit_code


def _only_stage(loaded: LoadedScenario) -> str:
    stages = dict.fromkeys(each.name for traffic in loaded.scenario.traffic.values() for each in traffic.stages)
    named = dict.fromkeys(each.stage for each in loaded.scenario.threshold if each.stage) or stages
    if len(named) == 1:
        return next(iter(named))
    raise InputError(
        f"{loaded.path} has several stages that can be judged: {', '.join(named)}",
        f"Choose one, for example --stage {next(iter(named))}.",
    )


def _drawn(loaded: LoadedScenario) -> set[LimitName]:
    """Return the limits that the scenario uses."""
    return {name for each in loaded.scenario.traffic.values() for name in LIMITS_OF_OPERATION[each.operation]}


class _Search:
    """A search in progress.

    Attributes:
        loaded: the scenario with only the judged stage.
        offered: the load at multiplier 1.
        least_requests: minimum number of requests at multiplier 1. Each async run counts as a submit and one poll.
        levels: levels so far. Each new level may correct the constraints of earlier levels.
        guesses: for each limit, a guess of the highest multiplier that the limit permits. Levels improve the guesses.
    """

    def __init__(
        self, *, stage: str | None, max_runs: int | None, max_requests: int, minutes: float | None, **given: Any
    ) -> None:
        self.options, self.max_requests, self.minutes = ScenarioOptions(**given), max_requests, minutes
        self.max_runs = max_runs or (None if minutes else _LEVELS)
        self.precision = _NARROW if minutes else search.Precision()
        whole = self.options.load()
        self.chosen: ChosenTarget | None = self.options.chosen()
        self.stage = stage or _only_stage(whole)
        limits = assumed_limits_of(whole, self.chosen)
        concurrency = limits.spec.algorithm == CONCURRENCY
        window_s = 0.0 if concurrency else max(limits.limit_on(name).window for name in _drawn(whole))
        self.loaded = with_stage_alone(whole, self.stage, window_s)
        scenario = self.loaded.scenario
        keys = scenario.keys if self.chosen is None else len(api_keys())
        assumed = assumed_limits_of(self.loaded, self.chosen)
        plans = planned_traffic(self.loaded, assumed, keys)
        base_rates = {name: plan.stages[-1].rate for name, plan in plans.items()}
        operations = {name: Operation(plan.operation) for name, plan in plans.items()}
        self.forecast = search.LimitForecast(Question(scenario, plans, assumed, start=0.0))
        self.guesses: list[Guess] = self.forecast.guesses()
        probe = "" if self.chosen is None else command_line("probe", **self.options.of_target)
        self.offered = sentences.Offered(base_rates, operations, assumed, keys, tuple(self.guesses), probe)
        self.counts = search.StageCounts(
            float(np.mean(list(base_rates.values()))) * scenario.duration,
            any(each.arrivals == "poisson" for each in scenario.traffic.values()),
        )
        least = sum(rate * len(LIMITS_OF_OPERATION[operations[name]]) for name, rate in base_rates.items())
        self.least_requests = least * scenario.duration
        self.levels: list[Level] = []
        self.target = ""

    def plan(self) -> str:
        """Return the expected limits and the cost of the first run, as text.

        Raises ``InputError`` if ``max_requests`` or the target's budget does not allow this run.
        """
        guesses = sorted(self.guesses, key=lambda guess: guess.multiplier)
        expected = [f"{each.limit} at {sentences.rates(self.offered, each.multiplier)}" for each in guesses]
        first, duration_s = self._next() or 1.0, self.loaded.scenario.duration
        operations = sum(self.offered.base_rates.values()) * first * duration_s
        if (needed := self._requests_at(first)) > self.max_requests:
            raise InputError(
                f"--max-requests {self.max_requests:,}: the first run sends at least about {needed:,.0f} requests",
                f"Give --max-requests {math.ceil(needed)} or more, or lower the rate of stage {self.stage!r}.",
            )
        silence = f", {self._silence_s():g} s between runs" if self.chosen else ""
        most = "" if self.max_runs is None else f"at most {self.max_runs} runs"
        time_ = "" if self.minutes is None else f"{self.minutes:g} minutes"
        return (
            f"Expected limits: {'; '.join(expected) or f'none up to {search.HIGHEST:g} times the rates'}.\n"
            f"Each run judges {duration_s:g} s of stage {self.stage!r}{silence}; "
            f"{' or '.join(filter(None, (most, time_)))}, and at most {self.max_requests:,} requests. The first run "
            f"offers {operations:,.0f} operations at {first:.3g} times the scenario's rates."
        )

    def _found(self) -> search.RateRange:
        return search.estimate(self.levels, self.guesses, self.counts)

    def _next(self) -> float | None:
        """Return the next multiplier, lowered if the budget requires it; None if nothing is left to try.

        Raises ``InputError`` if the budget allows no run, and ``EarlyStopError`` if it allows no informative run.
        """
        about = self.levels, self.guesses, self.counts, self.precision
        multiplier = search.next_multiplier(*about)
        if multiplier is None or (refused := self._refused(multiplier)) is None:
            return multiplier
        if not self.levels and (at_all := self._refused(search.LOWEST)) is not None:
            raise at_all
        place = bisect_left(search.RATES, x=True, key=lambda rate: self._refused(rate) is not None)
        slower = search.next_multiplier(*about, most=search.RATES[max(0, place - 1)])
        if slower is None:
            why = refused.message.rstrip(".")
            raise EarlyStopError(f"the target's budget allows no further run: {why}", ExitCode.ABORTED)
        return slower

    def _requests_at(self, multiplier: float) -> float:
        """Return the expected requests of a run that polls and retries as much as the costliest run so far."""
        return multiplier * max((each.requests / each.multiplier for each in self.levels), default=self.least_requests)

    def run(self, directory: Path) -> Capacity:
        """Make runs until the capacity's range is narrow, or no further run is allowed."""
        stopped: EarlyStopError | None = None
        slowest = at_rate(self.loaded, search.LOWEST, 0)
        self.started = time.monotonic()
        with nullcontext() if self.chosen is None else resolved_target(slowest, self.options) as running:
            try:
                while (multiplier := self._next()) is not None:
                    self._check_spent(multiplier)
                    level = self._level(directory, multiplier, running)
                    self.levels = search.with_causes([*self.levels, level])
                    self.guesses = self.forecast.guesses(self.levels)
                    print(self._line(), flush=True)
            except EarlyStopError as error:
                stopped = error
        return self._result(stopped)

    def _level(self, directory: Path, multiplier: float, running: ResolvedTarget | None) -> Level:
        try:
            return self._make(directory, multiplier, running)
        except LoadtestError as error:
            if not self.levels:
                raise
            # Keep the measured levels. Input was valid for the first run, so an InputError means an exhausted budget.
            code = ExitCode.ABORTED if isinstance(error, InputError) else error.exit_code
            raise self._unfinished(multiplier, error.message.rstrip("."), code) from None
        except KeyboardInterrupt:  # Between two loads; during a load, Ctrl-C ends the load early.
            raise self._unfinished(multiplier, "it was interrupted", ExitCode.INTERRUPTED) from None

    def _unfinished(self, multiplier: float, why: str, code: ExitCode) -> EarlyStopError:
        at = sentences.rates(self.offered, multiplier)
        return EarlyStopError(f"the next run, at {at}, was not finished: {why}", code)

    def _refused(self, multiplier: float) -> InputError | None:
        if self.chosen is None:
            return None
        loaded = at_rate(self.loaded, multiplier, len(self.levels))
        return over_budget(loaded, self.chosen, self.offered.keys, preflight=not self.levels)

    def _check_spent(self, multiplier: float) -> None:
        runs, sent = len(self.levels), sum(level.requests for level in self.levels)
        spent_s = time.monotonic() - self.started
        if self.max_runs is not None and runs >= self.max_runs:
            raise EarlyStopError(f"--max-runs {self.max_runs} is reached", ExitCode.INCONCLUSIVE)
        if self.minutes and runs and spent_s * (runs + 1) / runs > self.minutes * 60:
            raise EarlyStopError(f"the next run would exceed --minutes {self.minutes:g}", ExitCode.INCONCLUSIVE)
        if sent + self._requests_at(multiplier) > self.max_requests:
            words = f"the next run would exceed --max-requests {self.max_requests:,}"
            raise EarlyStopError(words, ExitCode.INCONCLUSIVE)

    def _silence_s(self) -> float:
        """Return for how many seconds requests count against the limits that the scenario uses."""
        return max(map(self.offered.assumed.counted_s, _drawn(self.loaded)))

    def _make(self, directory: Path, multiplier: float, running: ResolvedTarget | None) -> Level:
        """Run a level against the running target, or against a new embedded API."""
        loaded = at_rate(self.loaded, multiplier, len(self.levels))
        name = f"{_FOLDER}/{len(self.levels) + 1:02d}"
        if self.chosen is not None:
            check_reachable(self.chosen.target)
            if self.levels:  # wait until no limit counts the previous level's requests
                time.sleep(self._silence_s())
        with nullcontext(running) if running else resolved_target(loaded, self.options) as resolved:
            place, _ = prepare(loaded, resolved, directory, block=name, first=not self.levels)
            code = load_target(place, loaded.path.parent, resolved, logged=False)
            self.target = resolved.description
        info = run_directory.load(place)
        if code == ExitCode.INTERRUPTED or info.end == "interrupted":
            raise self._unfinished(multiplier, "it was interrupted", ExitCode.INTERRUPTED)
        # No plots: the search reads only the report's numbers.
        reported = make_report(place, plots=False, stdout=DEVNULL)
        if code != ExitCode.PASS:
            raise self._unfinished(
                multiplier, f"its load ended with exit code {code}: see load.log in {name}", ExitCode.BUG
            )
        try:
            level = read_level(place, name=name, multiplier=multiplier, stage=self.stage, scenario=loaded.scenario)
        except LoadtestError:
            why = f"its report ended with exit code {reported}; {mention('report', place)} shows the error"
            raise self._unfinished(multiplier, why, ExitCode.BUG) from None
        if info.end == "aborted" and level.outcome != "breaks":
            raise self._unfinished(multiplier, info.end_reason or "it was aborted", ExitCode.ABORTED)
        return level

    def _result(self, stopped: EarlyStopError | None) -> Capacity:
        found = self._found()
        answer = sentences.answer(self.levels, found, self.offered, stopped)
        high = sentences.stopping(self.levels, found.middle)
        passed = [level.multiplier for level, passed in search.outcomes(self.levels) if passed]
        return Capacity(
            scenario=self.loaded.name,
            title=self.loaded.scenario.title,
            stage=self.stage,
            target=self.target,
            base_rates=dict(self.offered.base_rates),
            multiplier=None if answer.range is None else answer.range.middle,
            low=max(passed, default=None) if answer.range is None else answer.range.low,
            high=None if answer.range is None else answer.range.high,
            constraint=None if high is None else high.constraint,
            limit=None if high is None else high.limit,
            sentence=answer.sentence,
            reasons=sentences.reasons(self.levels, self.offered, high),
            levels=tuple(self.levels),
            guesses=tuple(self.guesses),
            exit_code=int(answer.code),
        )

    def _line(self) -> str:
        level = self.levels[-1]
        parts = [f"{level.multiplier:.3g} times the rate: {level.outcome}"]
        for name, entry in level.entries.items():
            p95 = "–" if entry.response_p95_ms is None else f"{entry.response_p95_ms:,.0f} ms"
            parts.append(f"{name} {sentences.per_minute(entry.offered_rate)}/min, p95 {p95}")
        parts += [
            f"{percent(seen.throttled_rate)} of {limit} got 429"
            for limit, seen in level.limits.items()
            if seen.throttled_rate
        ]
        if level.broken:
            parts.append(f"not passed: {', '.join(level.broken)}")
        if search.bounded(self.levels):
            parts.append("range " + "{:.3g} to {:.3g}".format(*self._found()[::2]))
        return "; ".join(parts)
