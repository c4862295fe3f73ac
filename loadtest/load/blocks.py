"""The blocks of a paired comparison: prepared runs, made one after the other by one set of user classes.

One process, so that both sides are measured by the same generator, as warm as it is after the first pair. Both sides
get the same arrivals and inputs, because a schedule is a pure function of scenario and seed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import locust
from gevent.event import Event
from locust.env import Environment

from loadtest.credentials import credentials, side_environment
from loadtest.errors import ExitCode, TargetError
from loadtest.faults import CONTROL_VARIABLE
from loadtest.load.engine import Engine
from loadtest.load.request_budget import RequestBudget, remaining
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import user_classes
from loadtest.record import blocks as comparison
from loadtest.record import run_directory
from loadtest.record.blocks import Block, BlockPlan
from loadtest.record.progress import BlockBegins, ProgressLine
from loadtest.record.run_info import BudgetUse, RunInfo
from loadtest.scenario import Scenario

_GONE: Final = "nothing answered in block {} ({}, {}): its target is gone"


@dataclass
class _Target:
    """What the blocks against one base URL share: both sides may have the same one."""

    ended_unix_s: float | None = None
    """When the last block against it ended."""
    used: list[BudgetUse] = field(default_factory=list)
    """By each block."""
    budget: RequestBudget | None = None
    """Of the last block, if this process made it."""


class BlockSeries:
    """The blocks of one series, for an engine to run.

    Args:
        directory: of the comparison.
        series: which one.
        base: what a relative path in the scenario starts from.
        on_progress: called when a block is about to begin.
    """

    def __init__(
        self, directory: Path, series: int, *, base: Path, on_progress: Callable[[ProgressLine], None]
    ) -> None:
        self._plan: BlockPlan = comparison.load(directory)
        self._blocks = self._plan.of(series)
        info = _info(directory, self._blocks[0])
        scenario = Scenario.model_validate(info.scenario.effective)
        # Locust's own events, as for a single run. Both sides have the same traffic, and so the same users.
        self.environment = Environment(user_classes=user_classes(scenario, info.traffic, base), events=locust.events)
        self._users = sum(plan.users for plan in info.traffic.values())
        self._directory = directory
        self._base = base
        self._on_progress = on_progress
        self.interrupted = Event()
        """Set by the caller for no further block to begin."""
        self._number = 0
        self._session: Session | None = None
        self._targets: dict[str, _Target] = {}
        for block in self._plan.blocks:
            if block.series < series:
                self._note_end(_info(directory, block))

    def make_session(self) -> Session:
        """The session of the block that is about to begin."""
        block = self._blocks[self._number]
        directory = self._directory / block.directory
        info = run_directory.load(directory)
        info.started = datetime.now(UTC).isoformat(timespec="milliseconds")
        target = self._targets.setdefault(info.target.url, _Target())
        if info.target.budget is not None:
            info.target.budget = remaining(info.target.budget, target.used)
        environment = side_environment(block.side)
        endpoint = make_endpoint(info, *credentials(environment))
        if target.budget is not None:
            endpoint.budget.count_earlier(target.budget.recent)
        target.budget = endpoint.budget
        self._session = Session(
            self.environment,
            directory,
            info,
            Scenario.model_validate(info.scenario.effective),
            endpoint,
            base=self._base,
            control=environment.get(CONTROL_VARIABLE),
        )
        return self._session

    def run(self, engine: Engine, runner: locust.runners.LocalRunner) -> int:
        """Run block after block, until all are done or one ends before its time.

        Args:
            engine: conducts each with a session of ``make_session``.
            runner: Locust's, of ``environment``.

        Returns:
            0 when every record that was begun is closed; else an ``ExitCode``.

        Raises:
            LoadtestError: if a block could not begin or be recorded.
            TargetError: if nothing answered in a whole block.
        """
        for number, block in enumerate(self._blocks):
            self._number = number
            self._await_silence(block)
            if self.interrupted.is_set():
                break
            # Locust begins in a greenlet of its own: until then, `done` would be that of the block before.
            engine.done.clear()
            runner.start(self._users, spawn_rate=self._users)
            engine.done.wait()
            runner.stop()
            if engine.error is not None:
                raise engine.error
            if (session := self._session) is None or session.bug is not None:
                return ExitCode.BUG
            self._note_end(session.info)
            if session.info.end != "finished":
                break
            if session.live.sent and not session.live.answered:
                raise TargetError(_GONE.format(self._number + 1, block.side, session.info.target.url))
        return ExitCode.PASS

    def _await_silence(self, block: Block) -> None:
        """Wait until no limit counts requests of the block before on the same target, where the plan asks for it."""
        info = _info(self._directory, block)
        target = self._targets.get(info.target.url, _Target())
        silence = self._plan.silence_s
        if info.target.budget is not None and target.budget is None:
            # An earlier process sent there, and nobody here knows how much of a window's share is left.
            silence = max(silence, *(limit.window_s for limit in info.target.limits.values()))
        ended = target.ended_unix_s
        left = 0.0 if ended is None else max(0.0, ended + silence - time.time())
        self._on_progress(
            BlockBegins(
                number=self._number + 1,
                blocks=len(self._blocks),
                side=block.side,
                series=block.series,
                silence_s=round(left, 1),
            )
        )
        self.interrupted.wait(left)

    def _note_end(self, info: RunInfo) -> None:
        target = self._targets.setdefault(info.target.url, _Target())
        target.ended_unix_s = comparison.ended_unix_s(info) or target.ended_unix_s
        budget = info.target.budget
        if budget is not None and budget.used is not None:
            target.used.append(budget.used)


def _info(directory: Path, block: Block) -> RunInfo:
    return run_directory.load(directory / block.directory)
