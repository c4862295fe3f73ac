"""How many users each worker starts with, as Locust's master asks it of a dispatcher of users.

Locust's own moves users about when workers come and go, and stops those that it moves in the middle of what they do.
Here a worker that has its users keeps them: it is the arrivals that are shared out anew.

The master's end of the connection: who is there and agreed to take part, and what they say to the run under way.
"""

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import gevent
import msgspec
from gevent.queue import SimpleQueue
from locust import User
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import MasterRunner, WorkerNode

from loadtest.http_headers import package_version
from loadtest.load.distributed import protocol
from loadtest.load.distributed.protocol import PROTOCOL, FromMaster, FromWorker, Hello, Refuse


class Spreading:
    """Gives each worker its part of every class's users once, when it has agreed to take part.

    Args:
        worker_nodes: those that are connected.
        user_classes: with a ``fixed_count`` each, over all workers.
        agreed: says which workers take part, and how many there were when each was told so.
    """

    def __init__(
        self, worker_nodes: list[WorkerNode], user_classes: list[type[User]], *, agreed: Callable[[], dict[str, int]]
    ) -> None:
        self.dispatch_in_progress = True
        """To Locust: a worker that comes or goes is no reason to start again (it is told so where it is one)."""
        self._counts = {each.__name__: int(each.fixed_count) for each in user_classes}
        self._agreed = agreed
        self._nobody: dict[str, dict[str, int]] = {node.id: {} for node in worker_nodes[:1]}
        self._served = {node.id for node in worker_nodes if node.user_count}
        self._due = False

    def new_dispatch(self, target_user_count: int, spawn_rate: float, user_classes: Any = None) -> None:
        """Begin: all at once, whatever the rate."""
        self._due = True

    def __iter__(self) -> Iterator[dict[str, dict[str, int]]]:
        """Itself: Locust iterates until everybody has users."""
        return self

    def __next__(self) -> dict[str, dict[str, int]]:
        """Users by worker and class, of workers that have none yet."""
        if not self._due:
            raise StopIteration
        self._due = False
        agreed = self._agreed()
        new = {worker: of for worker, of in agreed.items() if worker not in self._served}
        self._served.update(new)
        # Locust fails where nobody gets anything; no classes at all change nothing.
        return {worker: part_of(self._counts, of) for worker, of in new.items()} or self._nobody

    def add_worker(self, worker_node: WorkerNode) -> None:
        """A worker is connected: it gets its users when it has agreed to take part."""

    def remove_worker(self, worker_node: WorkerNode) -> None:
        """A worker is gone; should it come back, it has no users."""
        self._served.discard(worker_node.id)


def part_of(counts: dict[str, int], workers: int) -> dict[str, int]:
    """One worker's part of users: rounded up, since each may be the one that needs the odd one."""
    return {name: -(-count // workers) for name, count in counts.items()}


logger = logging.getLogger(__name__)
_REMEDY: Final = "Install the same version on every machine."


class Listener(Protocol):
    """The run under way, to whom workers talk."""

    def welcome(self, worker: str, hello: Hello) -> None:
        """A worker has come that could take part."""
        ...

    def take(self, worker: str, said: FromWorker, received_ns: int) -> None:
        """A worker says something."""
        ...

    def parts(self) -> dict[str, int]:
        """Workers that take part, and how many there were when each was told so."""
        ...


class Mailbox:
    """Receives what workers say, and answers. One for a Locust master; runs come one after the other.

    Args:
        environment: Locust's.
        runner: its runner.
        keys: how many API keys the master has: each worker must have as many.
    """

    def __init__(self, environment: Environment, runner: MasterRunner, *, keys: int) -> None:
        self.here: dict[str, Hello] = {}
        """Workers that could take part, by their Locust id, in the order in which they came."""
        self.listener: Listener | None = None
        self.bug: str | None = None
        self._runner = runner
        self._keys = keys
        self._queue = SimpleQueue()
        runner.register_message(protocol.NAME, self._receive)
        environment.dispatcher_class = self._spread  # type: ignore[assignment] # of Locust's it has what a master asks
        gevent.spawn(self._work)

    def say(self, worker: str, said: FromMaster) -> None:
        """Tell a worker something; one that is gone hears nothing."""
        try:
            self._runner.send_message(protocol.NAME, {"body": protocol.encode(said)}, worker)
        except RPCError as error:
            logger.warning("A worker can't be told: %s", error)

    def connected(self) -> dict[str, Hello]:
        """Those of ``here`` that Locust believes to be connected."""
        clients = self._runner.clients
        there = {node.id for state in (clients.ready, clients.spawning, clients.running) for node in state}
        return {worker: hello for worker, hello in self.here.items() if worker in there}

    def give_users(self) -> None:
        """Let workers that have agreed since the run began have their users."""
        gevent.spawn(self._runner.start, self._runner.target_user_count, 1000.0)

    def _spread(self, worker_nodes: Any, user_classes: Any) -> Spreading:
        return Spreading(
            worker_nodes, user_classes, agreed=lambda: {} if self.listener is None else self.listener.parts()
        )

    def _receive(self, msg: Any, **_: Any) -> None:
        # Locust's own listener must not be held up: heartbeats would be late.
        self._queue.put((msg.node_id, msg.data["body"], time.monotonic_ns()))

    def _work(self) -> None:
        while True:
            worker, body, received = self._queue.get()
            try:
                self._take(worker, protocol.from_worker(body), received)
            except msgspec.MsgspecError:
                self.say(worker, Refuse(f"the master does not understand this worker. {_REMEDY}"))
            except Exception:  # noqa: BLE001 - ours, whatever it is: the run says so
                self.bug = traceback.format_exc()

    def _take(self, worker: str, said: FromWorker, received: int) -> None:
        if isinstance(said, Hello):
            if (refusal := self._refusal(said)) is not None:
                logger.warning("A worker on %s is refused: %s", said.host, refusal)
                self.say(worker, Refuse(refusal))
                return
            self.here[worker] = said
            if self.listener is not None:
                self.listener.welcome(worker, said)
        elif self.listener is not None:
            self.listener.take(worker, said, received)

    def _refusal(self, hello: Hello) -> str | None:
        if hello.protocol != PROTOCOL or hello.version != package_version():
            return f"the master is of version {package_version()}, this worker of {hello.version}. {_REMEDY}"
        if hello.keys != self._keys:
            return (
                f"the master has {self._keys} API key(s), this worker {hello.keys}. Put the same keys, in the same "
                "order, into WORKFLOW_API_KEYS of each."
            )
        return None
