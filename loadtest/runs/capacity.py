"""The search for a capacity: runs of one stage, each at another rate, until the bottleneck is known."""

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import msgspec

from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.capacity import models, search, sentences
from loadtest.capacity.models import with_causes, workers_guess
from loadtest.capacity.results import Capacity, Guess, Level, read_level, save
from loadtest.capacity.sentences import EarlyStop
from loadtest.contract import LIMITS_OF_OPERATION, Operation
from loadtest.credentials import api_keys
from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.plan import Question
from loadtest.prepare import assumed_limits_of, check_before_run, planned_traffic
from loadtest.processes import interrupt_on_terminate, make_report, run_module
from loadtest.record import run_directory
from loadtest.runs.run import load_target
from loadtest.runs.target import ResolvedTarget, ScenarioOptions, prepare, resolved_target
from loadtest.scenario import LoadedScenario, at_rate, with_stage_alone
from loadtest.targets import ChosenTarget, Target, check_reachable
from loadtest.words import percent

_FOLDER: Final = "levels"
_EXACT: Final = 1.005
"""Maximum ratio of the search's result to the highest rate that a request budget allows."""
_FURTHER: Final = 1.03
"""Minimum ratio to a rate that passed: a run closer to it would add no information."""


def find_capacity(
    *, stage: str | None, max_runs: int, max_requests: int | None, plan_only: bool, output_dir: Path, **given: Any
) -> int:
    """Find the highest rate that meets a scenario's thresholds, and return the exit code.

    ``given`` are fields of ``ScenarioOptions``.

    Raises:
        LoadtestError: if the first run could not start.
    """
    seeking = _Search(ScenarioOptions(**given), stage, max_runs, max_requests)
    print(seeking.plan(), flush=True)
    if plan_only:
        return int(ExitCode.PASS)
    interrupt_on_terminate()
    directory = run_directory.new_run_directory(output_dir, f"capacity-{seeking.loaded.name}")
    found = seeking.run(directory)
    save(found, directory)
    print("\n".join([found.sentence, *found.reasons, f"All runs are in {directory}."]), flush=True)
    run_module("loadtest.report.capacity", str(directory))
    return found.exit_code


def _only_stage(loaded: LoadedScenario) -> str:
    stages = dict.fromkeys(each.name for traffic in loaded.scenario.traffic.values() for each in traffic.stages)
    named = dict.fromkeys(each.stage for each in loaded.scenario.threshold if each.stage) or stages
    if len(named) == 1:
        return next(iter(named))
    raise InputError(
        f"{loaded.path} has thresholds for several stages: {', '.join(named)}",
        f"Choose one, for example --stage {next(iter(named))}.",
    )


def _window_s(loaded: LoadedScenario, assumed: AssumedLimits) -> float:
    """Length in s of the longest window that the scenario uses; a stage contains whole windows."""
    drawn = {name for each in loaded.scenario.traffic.values() for name in LIMITS_OF_OPERATION[each.operation]}
    return 0.0 if assumed.spec.algorithm == CONCURRENCY else max(assumed.limit_on(name).window for name in drawn)


class _StoppedError(Exception):
    """The early end of a search."""

    def __init__(self, words: str, code: ExitCode) -> None:
        super().__init__(words)
        self.stop = EarlyStop(words, code)


class _Search:
    """A search in progress.

    Attributes:
        loaded: the scenario with only the judged stage.
        offered: the load at multiplier 1.
        target: description of the target, once it was loaded.
        measured: levels so far, each judged alone.
        levels: the same levels, with causes inferred from all of them.
        expected: guesses before anything is sent.
        guesses: these, and guesses from the levels.
    """

    def __init__(self, options: ScenarioOptions, stage: str | None, max_runs: int, max_requests: int | None) -> None:
        self.options, self.max_runs, self.max_requests = options, max_runs, max_requests
        whole = options.load()
        self.chosen: ChosenTarget | None = options.chosen()
        self.stage = stage or _only_stage(whole)
        embedded = self.chosen is None
        window_s = _window_s(whole, assumed_limits_of(whole, self.chosen, embedded=embedded))
        self.loaded = with_stage_alone(whole, self.stage, window_s)
        scenario = self.loaded.scenario
        keys = scenario.keys if embedded else len(api_keys())
        assumed = assumed_limits_of(self.loaded, self.chosen, embedded=embedded)
        plans = planned_traffic(self.loaded, assumed, keys)
        base_rates = {name: plan.stages[-1].rate for name, plan in plans.items()}
        operations = {name: Operation(plan.operation) for name, plan in plans.items()}
        self.offered = sentences.Offered(base_rates, operations, assumed, keys)
        question = Question(scenario, plans, assumed, start=0.0)
        self.expected: list[Guess] = models.limit_guesses(question, models.tolerances(scenario))
        if embedded and (workers := workers_guess(scenario, base_rates, assumed, keys)) is not None:
            self.expected.append(workers)
        self.guesses = list(self.expected)
        self.measured: list[Level] = []
        self.levels: list[Level] = []
        self.target = ""

    def plan(self) -> str:
        each = sorted(self.guesses, key=lambda guess: guess.multiplier)
        expected = [f"{g.limit or g.constraint} at {sentences.rates(g.multiplier, self.offered)}" for g in each]
        first = self._allowed(self._next() or search.NextRun(1.0, None))
        scout = "" if first.scout_s is None else f" in {first.scout_s:g} s, as an exploratory run,"
        return (
            f"Expected constraints: {'; '.join(expected) or 'none known'}.\n"
            f"Each run judges {self.loaded.scenario.duration:g} s of stage {self.stage!r}, at most "
            f"{self.max_runs} runs; the first offers {self._operations_of(first):,.0f} operations{scout} at "
            f"{first.multiplier:.3g} times the scenario's rates."
        )

    def _next(self) -> search.NextRun | None:
        return search.next_run(self.levels, self.guesses, self.loaded.scenario, self.offered.base_rates)

    def _operations_of(self, run: search.NextRun) -> float:
        seconds = run.scout_s or self.loaded.scenario.duration
        return sum(self.offered.base_rates.values()) * run.multiplier * seconds

    def run(self, directory: Path) -> Capacity:
        """Make runs until the answer is known, or no more are allowed.

        Raises:
            LoadtestError: if the first run could not start.
        """
        stopped: EarlyStop | None = None
        slowest = at_rate(self.loaded, search.LOWEST, None)
        with nullcontext() if self.chosen is None else resolved_target(slowest, self.options) as running:
            try:
                while (run := self._next()) is not None:
                    self._check_spent(run)
                    self._learn(self._level(directory, run, running))
                    print(_line(self.levels[-1]), flush=True)
            except _StoppedError as error:
                stopped = error.stop
        return self._found(stopped)

    def _level(self, directory: Path, run: search.NextRun, running: ResolvedTarget | None) -> Level:
        """Make a run; the budget may require a slower run."""
        try:
            run = self._allowed(run)
            return self._make(directory, run, running)
        except LoadtestError as error:
            if not self.measured:
                raise
            # Keep the measured levels. Input was valid for the first run, so the budget is exhausted.
            code = ExitCode.ABORTED if isinstance(error, InputError) else error.exit_code
            raise self._unfinished(run, error.message.rstrip("."), code) from None
        except KeyboardInterrupt:  # Between two loads; during a load, the load ends early.
            raise self._unfinished(run, "it was interrupted", ExitCode.INTERRUPTED) from None

    def _unfinished(self, run: search.NextRun, why: str, code: ExitCode) -> _StoppedError:
        at = sentences.rates(run.multiplier, self.offered)
        return _StoppedError(f"the next run, at {at}, was not finished: {why}", code)

    def _allowed(self, run: search.NextRun) -> search.NextRun:
        """Return the run, or a slower run if the budget of the target's entry requires it.

        Raises:
            InputError: if no run is allowed.
            _StoppedError: if no informative run is allowed.
        """
        refused = self._refused(run)
        if refused is None:
            return run
        low = search.bracket(self.levels).low
        least = search.LOWEST if low is None else low.multiplier
        if low is None and (at_all := self._refused(search.NextRun(least, None))) is not None:
            raise at_all
        most, too_much = least, run.multiplier
        while too_much / most > _EXACT:
            middle = math.sqrt(most * too_much)
            if self._refused(search.NextRun(middle, None)) is None:
                most = middle
            else:
                too_much = middle
        if low is not None and most <= low.multiplier * _FURTHER:
            why = refused.message.rstrip(".")
            raise _StoppedError(f"the target's budget allows no more: {why}", ExitCode.ABORTED)
        return search.NextRun(most, None)

    def _refused(self, run: search.NextRun) -> InputError | None:
        """Why the budget does not allow a run; None if it does."""
        if self.chosen is None:
            return None
        loaded = at_rate(self.loaded, run.multiplier, run.scout_s)
        try:
            check_before_run(loaded, self.chosen, keys=self.offered.keys, preflight=not self.levels)
        except InputError as error:
            return error
        return None

    def _learn(self, level: Level) -> None:
        scenario, assumed, keys = self.loaded.scenario, self.offered.assumed, self.offered.keys
        self.measured.append(level)
        self.levels = with_causes(self.measured, scenario, assumed, keys)
        self.guesses = [*self.expected, *models.learned_guesses(self.levels, assumed, keys, scenario)]

    def _check_spent(self, run: search.NextRun) -> None:
        most = self.max_requests
        if len(self.levels) >= self.max_runs:
            raise _StoppedError(f"--max-runs {self.max_runs} is reached", ExitCode.INCONCLUSIVE)
        sent = sum(level.requests for level in self.levels)
        if most is not None and sent + self._operations_of(run) > most:
            words = f"the next run would exceed --max-requests {most:,}"
            raise _StoppedError(words, ExitCode.INCONCLUSIVE)

    def _leave_alone(self, target: Target) -> None:
        """Wait until no limit of a running target still counts the previous level."""
        check_reachable(target)
        if self.levels:
            silence = _window_s(self.loaded, self.offered.assumed)
            print(f"Waiting {silence:g} s, until no limit counts the previous run.", flush=True)
            time.sleep(silence)

    def _make(self, directory: Path, run: search.NextRun, running: ResolvedTarget | None) -> Level:
        """Run a level against the running target, or against a new embedded API."""
        loaded = at_rate(self.loaded, run.multiplier, run.scout_s)
        name = f"{_FOLDER}/{len(self.levels) + 1:02d}"
        if self.chosen is not None:
            self._leave_alone(self.chosen.target)
        with nullcontext(running) if running else resolved_target(loaded, self.options) as resolved:
            place, _ = prepare(loaded, resolved, directory, block=name, first=not self.levels)
            code = load_target(place, loaded.path.parent, resolved)
            self.target = resolved.description
        info = run_directory.load(place)
        if code == ExitCode.INTERRUPTED or info.end == "interrupted":
            raise self._unfinished(run, "it was interrupted", ExitCode.INTERRUPTED)
        # Each run has its own report; only its figures are needed here.
        make_report(place, plots=False, quiet=True)
        if code != ExitCode.PASS:
            raise self._unfinished(run, f"its load ended with exit code {code}: see load.log in {name}", ExitCode.BUG)
        level = read_level(place, name=name, multiplier=run.multiplier, stage=self.stage, scenario=loaded.scenario)
        if info.end == "aborted" and level.outcome != "breaks":
            raise self._unfinished(run, info.end_reason or "it was aborted", ExitCode.ABORTED)
        return msgspec.structs.replace(level, scout=run.scout_s is not None)

    def _found(self, stopped: EarlyStop | None) -> Capacity:
        between = search.bracket(self.levels)
        low, high = between.low, between.high
        constraint = None if high is None else high.constraint
        answer = sentences.answer(self.levels, self.guesses, self.offered, stopped)
        return Capacity(
            scenario=self.loaded.name,
            title=self.loaded.scenario.title,
            stage=self.stage,
            target=self.target,
            base_rates=dict(self.offered.base_rates),
            multiplier=answer.multiplier,
            low=None if low is None else low.multiplier,
            high=None if high is None else high.multiplier,
            constraint=constraint,
            limit=None if high is None else high.limit,
            sentence=answer.sentence,
            reasons=sentences.reasons(self.levels, self.offered, constraint),
            levels=tuple(self.levels),
            guesses=tuple(self.guesses),
            exit_code=int(answer.code),
        )


def _line(level: Level) -> str:
    outcome = f"exploratory, {level.stage_s:g} s" if level.scout else level.outcome
    parts = [f"{level.multiplier:.3g} times the rate: {outcome}"]
    for name, entry in level.entries.items():
        p95 = "–" if entry.response_p95_ms is None else f"{entry.response_p95_ms:,.0f} ms"
        parts.append(f"{name} {entry.offered_rate * 60:,.0f}/min, 429 {percent(entry.throttled_rate)}, p95 {p95}")
    return "  ".join([*parts, *(() if level.scout else level.broken)])
