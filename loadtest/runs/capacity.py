"""The search for a capacity: runs of one stage at one rate after the other, until it is known what stops more."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
from loadtest.targets import ChosenTarget, check_reachable
from loadtest.words import percent

_FOLDER: Final = "levels"
_EXACT: Final = 1.005
"""How near to the highest rate that a budget allows the search for it goes."""
_FURTHER: Final = 1.03
"""Times a rate that held: a run nearer to it would tell nothing."""
_Reach = Callable[[LoadedScenario], AbstractContextManager[ResolvedTarget]]
_INTERRUPTED: Final = EarlyStop("it was interrupted", ExitCode.INTERRUPTED)


@dataclass(frozen=True, kw_only=True)
class CapacityOptions(ScenarioOptions):
    """The options of ``loadtest capacity``."""

    stage: str | None
    max_runs: int
    max_requests: int | None
    plan_only: bool
    output_dir: Path


def find_capacity(options: CapacityOptions) -> int:
    """Find the highest rate at which the thresholds of a scenario hold; gives the exit code.

    Raises:
        LoadtestError: if the first run could not begin.
    """
    seeking = _Search(options)
    print(seeking.plan(), flush=True)
    if options.plan_only:
        return int(ExitCode.PASS)
    interrupt_on_terminate()
    directory = run_directory.new_run_directory(options.output_dir, f"capacity-{seeking.loaded.name}")
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
        f"{loaded.path} has thresholds about several stages: {', '.join(named)}",
        f"Name one, as --stage {next(iter(named))}.",
    )


def _window_s(loaded: LoadedScenario, assumed: AssumedLimits) -> float:
    """Seconds of the longest window that the scenario draws on: a stage holds whole ones."""
    drawn = {name for each in loaded.scenario.traffic.values() for name in LIMITS_OF_OPERATION[each.operation]}
    return 0.0 if assumed.spec.algorithm == CONCURRENCY else max(assumed.limit_on(name).window for name in drawn)


class _Search:
    """A search under way.

    Attributes:
        loaded: the scenario with the judged stage alone.
        offered: at multiplier 1.
        target: in words, once it was loaded.
        measured: levels so far, as each alone looks.
        levels: the same, with what stopped them in the light of all.
        expected: guesses before anything is sent.
        guesses: these, and what the levels tell.
    """

    def __init__(self, options: CapacityOptions) -> None:
        self.options = options
        whole = options.load()
        self.chosen: ChosenTarget | None = options.chosen()
        self.stage = options.stage or _only_stage(whole)
        embedded = self.chosen is None
        window_s = _window_s(whole, assumed_limits_of(whole, self.chosen, embedded=embedded))
        self.loaded = with_stage_alone(whole, self.stage, window_s)
        self.keys = self.loaded.scenario.keys if embedded else len(api_keys())
        self.assumed = assumed_limits_of(self.loaded, self.chosen, embedded=embedded)
        plans = planned_traffic(self.loaded, self.assumed, self.keys)
        base_rates = {name: plan.stages[-1].rate for name, plan in plans.items()}
        operations = {name: Operation(plan.operation) for name, plan in plans.items()}
        self.offered = sentences.Offered(base_rates, operations, self.assumed, self.keys)
        scenario = self.loaded.scenario
        question = Question(scenario, plans, self.assumed, start=0.0)
        self.expected: list[Guess] = models.limit_guesses(question, models.tolerances(scenario))
        if embedded and (workers := workers_guess(scenario, base_rates, self.assumed, self.keys)) is not None:
            self.expected.append(workers)
        self.guesses = list(self.expected)
        self.measured: list[Level] = []
        self.levels: list[Level] = []
        self.target = ""

    def plan(self) -> str:
        each = sorted(self.guesses, key=lambda guess: guess.multiplier)
        expected = [f"{g.limit or g.constraint} at {sentences.rates(g.multiplier, self.offered)}" for g in each]
        wanted = self._next() or search.NextRun(1.0, None)
        first = self._allowed(wanted)
        if isinstance(first, EarlyStop):  # Not before anything was measured.
            first = wanted
        most = self.options.max_runs
        scout = "" if first.scout_s is None else f" in {first.scout_s:g} s, to find the way,"
        return (
            f"Expected constraints: {'; '.join(expected) or 'none that is known'}.\n"
            f"Each run judges {self.loaded.scenario.duration:g} s of stage {self.stage!r}, at most {most} "
            f"runs; the first offers {self._operations_of(first):,.0f} operations{scout} at {first.multiplier:.3g} "
            "times the scenario's rates."
        )

    def _next(self) -> search.NextRun | None:
        return search.next_run(self.levels, self.guesses, self.loaded.scenario, self.offered.base_rates)

    def _operations_of(self, run: search.NextRun) -> float:
        seconds = run.scout_s or self.loaded.scenario.duration
        return sum(self.offered.base_rates.values()) * run.multiplier * seconds

    def run(self, directory: Path) -> Capacity:
        """Make one run after the other until the answer is known, or no more may be made.

        Raises:
            LoadtestError: if the first run could not begin.
        """
        stopped: EarlyStop | None = None
        with self._target() as reach:
            while stopped is None and (run := self._next()) is not None:
                level = self._spent(run) or self._level(directory, run, reach)
                if isinstance(level, EarlyStop):
                    stopped = level
                else:
                    self._learn(level)
                    print(_line(self.levels[-1]), flush=True)
        return self._found(stopped)

    def _level(self, directory: Path, run: search.NextRun, reach: _Reach) -> Level | EarlyStop:
        """Make a run, or a slower one that the budget allows; gives its level, or why the search ends here."""
        try:
            allowed = self._allowed(run)
            if isinstance(allowed, EarlyStop):
                return allowed
            run = allowed
            level = self._make(directory, run, reach)
        except LoadtestError as error:
            if not self.measured:
                raise
            # What was measured counts. Input was right for the first run: it is the budget that is spent.
            code = ExitCode.ABORTED if isinstance(error, InputError) else error.exit_code
            level = EarlyStop(error.message.rstrip("."), code)
        except KeyboardInterrupt:  # Between two loads; during one, the load ends early.
            level = _INTERRUPTED
        if isinstance(level, EarlyStop):
            at = sentences.rates(run.multiplier, self.offered)
            return level._replace(words=f"the next run, of {at}, was not finished: {level.words}")
        return level

    def _allowed(self, run: search.NextRun) -> search.NextRun | EarlyStop:
        """The run, or a slower one where the budget of the target's entry allows none so fast.

        Raises:
            InputError: if it allows none at all.
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
            most, too_much = (
                (middle, too_much) if self._refused(search.NextRun(middle, None)) is None else (most, middle)
            )
        if low is None or most > low.multiplier * _FURTHER:
            return search.NextRun(most, None)
        return EarlyStop(f"the target's budget allows no more: {refused.message.rstrip('.')}", ExitCode.ABORTED)

    def _refused(self, run: search.NextRun) -> InputError | None:
        """Why the budget does not allow a run; None if it does."""
        if self.chosen is None:
            return None
        loaded = at_rate(self.loaded, run.multiplier, run.scout_s)
        try:
            check_before_run(loaded, self.chosen, keys=self.keys, preflight=not self.levels)
        except InputError as error:
            return error
        return None

    def _learn(self, level: Level) -> None:
        scenario = self.loaded.scenario
        self.measured.append(level)
        self.levels = with_causes(self.measured, scenario, self.assumed, self.keys)
        learned = models.learned_guesses(self.levels, self.assumed, self.keys, scenario)
        self.guesses = [*self.expected, *learned]

    def _spent(self, run: search.NextRun) -> EarlyStop | None:
        most, runs = self.options.max_requests, self.options.max_runs
        if len(self.levels) >= runs:
            return EarlyStop(f"--max-runs {runs} were made", ExitCode.INCONCLUSIVE)
        sent = sum(level.requests for level in self.levels)
        if most is not None and sent + self._operations_of(run) > most:
            words = f"the next run would send more than --max-requests {most:,} in all"
            return EarlyStop(words, ExitCode.INCONCLUSIVE)
        return None

    @contextmanager
    def _target(self) -> Iterator[_Reach]:
        """Gives what a level is sent to: a new embedded API each time, or the running target, left alone in between."""
        if self.chosen is None:
            yield lambda loaded: resolved_target(loaded, self.options)
            return
        chosen = self.chosen
        with resolved_target(at_rate(self.loaded, search.LOWEST, None), self.options) as resolved:
            yield lambda _: self._left_alone(chosen, resolved)

    @contextmanager
    def _left_alone(self, chosen: ChosenTarget, resolved: ResolvedTarget) -> Iterator[ResolvedTarget]:
        """A running target whose limits count nothing of the level before."""
        check_reachable(chosen.target)
        if self.levels:
            silence = _window_s(self.loaded, self.assumed)
            print(f"Waits {silence:g} s, so that no limit counts the run before.", flush=True)
            time.sleep(silence)
        yield resolved

    def _make(self, directory: Path, run: search.NextRun, reach: _Reach) -> Level | EarlyStop:
        loaded = at_rate(self.loaded, run.multiplier, run.scout_s)
        name = f"{_FOLDER}/{len(self.levels) + 1:02d}"
        with reach(loaded) as resolved:
            place, _ = prepare(loaded, resolved, directory, block=name, first=not self.levels)
            code = load_target(place, loaded.path.parent, resolved)
            self.target = resolved.description
        info = run_directory.load(place)
        if code == ExitCode.INTERRUPTED or info.end == "interrupted":
            return _INTERRUPTED
        # Each run has a report of its own; here only its figures are read.
        make_report(place, plots=False, quiet=True)
        if code != ExitCode.PASS:
            return EarlyStop(f"its load ended with exit code {code}: see load.log in {name}", ExitCode.BUG)
        level = read_level(place, name=name, multiplier=run.multiplier, stage=self.stage, scenario=loaded.scenario)
        if info.end == "aborted" and level.outcome != "breaks":
            return EarlyStop(info.end_reason or "it was aborted", ExitCode.ABORTED)
        return msgspec.structs.replace(level, scout=run.scout_s is not None)

    def _found(self, stopped: EarlyStop | None) -> Capacity:
        between = search.bracket(self.levels)
        high = between.high
        constraint = None if high is None else high.constraint
        answer = sentences.answer(self.levels, self.guesses, self.offered, stopped)
        return Capacity(
            scenario=self.loaded.name,
            title=self.loaded.scenario.title,
            stage=self.stage,
            target=self.target,
            base_rates=dict(self.offered.base_rates),
            multiplier=answer.multiplier,
            low=None if between.low is None else between.low.multiplier,
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
    """A level in a line: its rates, times and 429s."""
    outcome = f"finds the way, in {level.stage_s:g} s" if level.scout else level.outcome
    parts = [f"{level.multiplier:.3g} times the rate: {outcome}"]
    for name, entry in level.entries.items():
        p95 = "–" if entry.response_p95_ms is None else f"{entry.response_p95_ms:,.0f} ms"
        parts.append(f"{name} {entry.offered_rate * 60:,.0f}/min, 429 {percent(entry.throttled_rate)}, p95 {p95}")
    return "  ".join([*parts, *(() if level.scout else level.broken)])
