"""What whoever keeps the server up asks it: whether it is well, what it has counted, what its API is.

These routes are no part of the API: they need no key and no endpoint, and draw on no limit.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from loadtest.reference_api import document, metrics
from loadtest.reference_api.answers import Reply, Scope, encode
from loadtest.reference_api.config import ServerConfig
from loadtest.reference_api.jobs import JobStore
from loadtest.reference_api.metrics import NO_LIMIT, Metrics, Reading
from loadtest.reference_api.throttle import DRAWN, Throttle
from loadtest.reference_api.workflows import Workflow

_OK: Final = Reply(200, encode({"status": "ok"}))
_STOPPING: Final = Reply(503, encode({"status": "stopping"}))


class Upkeep:
    """Health, counts and document of one server.

    Args:
        config: its bounds.
        throttle: its limits.
        jobs: its jobs.
        workflows: its workflows, by name.

    Attributes:
        routes: how a GET is answered, by path.
        abandoned: requests whose client hung up before the answer.
    """

    def __init__(
        self, config: ServerConfig, throttle: Throttle, jobs: JobStore, workflows: Mapping[str, Workflow]
    ) -> None:
        self.abandoned = 0
        self._stopping = False
        self._answered: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._config = config
        self._throttle = throttle
        self._jobs = jobs
        self._workflows = workflows
        self._document = document.document()
        self.routes: dict[str, Callable[[Scope], Awaitable[Reply]]] = {
            "/healthz": self._health,
            metrics.PATH: Metrics(self._read).reply,
            document.PATH: self._describe,
        }

    def answered(self, scope: Scope | None, status: int) -> None:
        """Count an answer; ``scope`` is None where there was no request that could be understood."""
        self._answered[NO_LIMIT if scope is None else scope.get(DRAWN, NO_LIMIT), status] += 1

    def stop(self) -> None:
        """The server was told to stop."""
        self._stopping = True

    async def _health(self, _scope: Scope) -> Reply:
        return _STOPPING if self._stopping else _OK

    async def _describe(self, _scope: Scope) -> Reply:
        return self._document

    def _read(self) -> Reading:
        pools = {workflow.threads for workflow in self._workflows.values()}
        return Reading(
            requests=self._answered,
            abandoned=self.abandoned,
            allowed=self._throttle.allowed,
            rejected=self._throttle.rejected,
            accepted=self._jobs.accepted,
            finished=self._jobs.ended,
            jobs=self._jobs.counts,
            queue=self._config.queue,
            workers=(self._jobs.running, self._config.workers),
            threads=(sum(pool.busy for pool in pools if pool), self._config.threads),
            times={name: workflow.times for name, workflow in self._workflows.items()},
        )
