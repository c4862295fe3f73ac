"""Exchange of messages with workers over Locust's connection, and the number of users of each worker.

When a worker comes or goes, Locust's master moves users between workers. It stops each moved user, even during an
operation. ``UserDispatcher`` avoids this: workers keep their users, and arrivals are reassigned (see ``assignment``).
"""

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

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

logger = logging.getLogger(__name__)
_REMEDY: Final = "Install the same version on every machine."
_AT_ONCE: Final = 1000.0


class Mailbox:
    """Exchanges messages with the workers of a Locust master during its successive runs."""

    def __init__(self, environment: Environment, runner: MasterRunner, *, keys: int) -> None:
        self.on_message: Callable[[str, FromWorker, int], None] = lambda *_: None
        """Called with a worker's id, its message and the time of receipt (monotonic ns). The current run sets it."""
        self.worker_counts: Callable[[], dict[str, int]] = dict
        """Returns the workers of the run, each with the number of workers when it was set up."""
        self.bug: str | None = None
        self._accepted: dict[str, Hello] = {}
        """Accepted workers by Locust id, in the order in which they connected."""
        self._runner = runner
        self._keys = keys
        self._queue = SimpleQueue()
        runner.register_message(protocol.NAME, self._receive)
        environment.dispatcher_class = partial(  # type: ignore[assignment] # it has the methods that a master calls
            UserDispatcher, mailbox=self
        )
        gevent.spawn(self._work)

    def send(self, worker: str, message: FromMaster) -> None:
        """Send a message to a worker. If the worker is gone, the message is lost."""
        try:
            self._runner.send_message(protocol.NAME, {"body": protocol.encode(message)}, worker)
        except RPCError as error:
            logger.warning("A message to a worker failed: %s", error)

    def connected(self) -> dict[str, Hello]:
        """Return the accepted workers that are connected."""
        clients = self._runner.clients
        listed = {node.id for state in (clients.ready, clients.spawning, clients.running) for node in state}
        return {worker: hello for worker, hello in self._accepted.items() if worker in listed}

    def give_users(self) -> None:
        gevent.spawn(self._runner.start, self._runner.target_user_count, _AT_ONCE)

    def _receive(self, msg: Any, **_: Any) -> None:
        # The message is queued, because a listener that blocks would delay Locust's heartbeats.
        self._queue.put((msg.node_id, msg.data["body"], time.monotonic_ns()))

    def _work(self) -> None:
        while True:
            worker, body, received_ns = self._queue.get()
            try:
                self._deliver(worker, protocol.from_worker(body), received_ns)
            except msgspec.MsgspecError:
                self.send(worker, Refuse(f"the master does not understand this worker. {_REMEDY}"))
            except Exception:  # noqa: BLE001 - the run reports every error of the harness
                self.bug = traceback.format_exc()

    def _deliver(self, worker: str, message: FromWorker, received_ns: int) -> None:
        if isinstance(message, Hello):
            refusal = ""
            if message.protocol != PROTOCOL or message.version != package_version():
                refusal = f"the master has version {package_version()}, this worker has {message.version}. {_REMEDY}"
            elif message.keys != self._keys:
                refusal = (
                    f"the master has {self._keys} API key(s), this worker has {message.keys}. Set WORKFLOW_API_KEYS to "
                    "the same keys, in the same order, on both."
                )
            if refusal:
                logger.warning("A worker on %s is rejected: %s", message.host, refusal)
                self.send(worker, Refuse(refusal))
                return
            self._accepted[worker] = message
        self.on_message(worker, message, received_ns)


class UserDispatcher:
    """Gives each worker its users once, when the worker joins the run.

    The ``fixed_count`` of a user class is its number of users before they are divided among the workers.
    """

    def __init__(self, worker_nodes: list[WorkerNode], user_classes: list[type[User]], *, mailbox: Mailbox) -> None:
        self.dispatch_in_progress = True
        """While this is true, Locust moves no users when workers come or go (see ``Mailbox.give_users``)."""
        self._user_counts = {each.__name__: int(each.fixed_count) for each in user_classes}
        self._mailbox = mailbox
        self._nobody: dict[str, dict[str, int]] = {node.id: {} for node in worker_nodes[:1]}
        self._served = {node.id for node in worker_nodes if node.user_count}
        self._due = False

    def new_dispatch(self, target_user_count: int, spawn_rate: float, user_classes: Any = None) -> None:
        self._due = True

    def __iter__(self) -> Iterator[dict[str, dict[str, int]]]:
        return self

    def __next__(self) -> dict[str, dict[str, int]]:
        """Return the number of users to start, by worker and class, for each worker without users."""
        if not self._due:
            raise StopIteration
        self._due = False
        new = {worker: count for worker, count in self._mailbox.worker_counts().items() if worker not in self._served}
        self._served.update(new)
        # Locust fails on an empty result. A result with a worker but no class starts no users.
        return {
            worker: {name: part_of(users, count) for name, users in self._user_counts.items()}
            for worker, count in new.items()
        } or self._nobody

    def add_worker(self, worker_node: WorkerNode) -> None: ...  # a worker gets its users when it joins the run

    def remove_worker(self, worker_node: WorkerNode) -> None:
        self._served.discard(worker_node.id)


def part_of(users: int, workers: int) -> int:
    """Return a worker's number of users: an equal share of ``users``, rounded up."""
    return -(-users // workers)
