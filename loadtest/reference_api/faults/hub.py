"""The faults of one server, put together."""

from collections.abc import Callable

from loadtest.faults import parse
from loadtest.reference_api.app import WorkflowApi
from loadtest.reference_api.config import ServerConfig
from loadtest.reference_api.faults.board import Board
from loadtest.reference_api.faults.misbehaving import Misbehaving
from loadtest.reference_api.faults.pauses import Freezer
from loadtest.reference_api.faults.work import Work
from loadtest.reference_api.states import State


class Hub:
    """The faults of a server that may misbehave, now or later.

    Args:
        config: what the server was told.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.board = Board(config.fault_seed, len(config.keys))
        self.work = Work(self.board)
        """What executions and jobs ask."""
        self.counts: Callable[[], dict[State, int]] = dict
        """How many jobs there are in each state."""
        self._config = config

    def around(self, api: WorkflowApi, stopping: Callable[[], bool]) -> Misbehaving:
        """The application that misbehaves.

        Args:
            api: one that was made with ``work``.
            stopping: whether the server was told to end.
        """
        self.work.attach({account: n for n, account in enumerate(api.accounts.by_key.values())}, api.jobs.wake)
        self.counts = lambda: api.jobs.counts
        return Misbehaving(api, self._config, self.board, self.work, Freezer(self.board, stopping))

    def begin(self) -> None:
        """Put the faults that the server was told in force: it is ready."""
        if self._config.faults:
            self.board.add(
                map(parse, self._config.faults), self.board.clock() if self._config.fault_clock == "ready" else None
            )


def make_hub(config: ServerConfig) -> Hub | None:
    """Make the hub of a server; None where it has no faults and can get none, and so shall pay for none."""
    return Hub(config) if config.faults or config.control_port is not None else None
