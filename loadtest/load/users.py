"""The Locust user classes: each carries out the arrivals of one traffic entry, one at a time.

An idle user waits for its arrival inside ``wait_time``, which is where Locust may stop a user at once.
"""

import logging
import traceback
from typing import ClassVar

import gevent
import locust
from gevent.queue import SimpleQueue
from locust.env import Environment

from loadtest.load.client import TERMINAL, Answer, WorkflowClient
from loadtest.load.operation import Operation
from loadtest.load.session import Session, session_of
from loadtest.schedule import Arrival

logger = logging.getLogger(__name__)


class WorkflowUser(locust.User):
    """Takes arrivals from the pool of its traffic entry and carries each out. Subclasses say how, in ``perform``."""

    abstract = True
    traffic_name: ClassVar[str]
    """The traffic entry; set by ``user_classes``."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.session: Session = session_of(environment)
        self.entry = self.session.entries[self.traffic_name]
        self.client = WorkflowClient(self.session.endpoint, self.entry.traffic.timeout)
        self.inbox = SimpleQueue()
        self.free_ns = 0
        self._arrival: Arrival | None = None

    def wait_time(self) -> float:
        """Wait for an arrival, then start at once."""
        self._arrival = self.entry.pool.take(self)
        return 0.0

    @locust.task
    def operate(self) -> None:
        """Carry out the arrival at hand; whatever happens, it ends in exactly one outcome."""
        arrival, self._arrival = self._arrival, None
        if arrival is None:
            # Locust runs a task before it waits for the first time.
            return
        operation = Operation(self.session, self.entry, arrival, self.free_ns, self.client.wire)
        try:
            self.perform(operation)
        except gevent.GreenletExit:
            operation.finish("timed_out", "drain")
            raise
        except Exception:
            # Ours, not the target's. The arrival still counts, and the run says that it cannot be trusted.
            self.session.bug = traceback.format_exc()
            operation.finish("failed", "harness_error")
            raise

    def perform(self, operation: Operation) -> None:
        """Send the operation's requests and finish it."""
        raise NotImplementedError

    def on_stop(self) -> None:
        """Give back an arrival that was taken but not begun, and hang up."""
        if self._arrival is not None:
            self.entry.pool.give_back(self._arrival)
            self._arrival = None
        self.client.close()


class SyncRunUser(WorkflowUser):
    """Runs a workflow and waits for its result."""

    abstract = True

    def perform(self, operation: Operation) -> None:
        """One ``run``."""
        template = self.entry.templates[operation.key_index]
        operation.finish_as(operation.request("run", lambda trace: self.client.post("run", template, trace)))


class AsyncRunUser(WorkflowUser):
    """Submits a job and polls it until it is completed or has failed: one operation."""

    abstract = True

    def perform(self, operation: Operation) -> None:
        """One ``submit``, then polls as the policy says. A poll's 429 is no end: the next poll follows."""
        template = self.entry.templates[operation.key_index]
        submit = operation.request("submit", lambda trace: self.client.post("submit", template, trace))
        if submit.outcome != "ok" or submit.job_id is None:
            operation.finish_as(submit)
            return
        job_id = submit.job_id
        self.session.recorder.job(job_id, operation.key_index)
        self.session.own_jobs.add(job_id, operation.key_index)
        accepted = last = submit.exchange.end
        number = 0
        while (due := self.entry.polling.next_poll(accepted, last)) is not None:
            gevent.sleep(max(0.0, (due - last) / 1e9))
            number += 1
            answer = operation.request(
                "poll",
                lambda trace: self.client.get("poll", job_id, operation.key_index, trace),
                intended_ns=due,
                poll=number,
            )
            last = answer.exchange.end
            if self._settles(operation, answer):
                return
        operation.finish("timed_out", "give_up")

    def _settles(self, operation: Operation, answer: Answer) -> bool:
        """Finish the operation if this answer to a poll ends it."""
        if answer.outcome == "throttled" or (answer.outcome == "ok" and answer.job_state not in TERMINAL):
            return False
        _finish_by_job(operation, answer)
        return True


class RetrievalUser(WorkflowUser):
    """Asks for the state of jobs that exist already."""

    abstract = True

    def perform(self, operation: Operation) -> None:
        """One ``retrieve``; without any job to ask for yet, the operation is dropped."""
        job_id = self.entry.job_ids.pick(operation.arrival.number, operation.key_index)
        if job_id is None:
            operation.finish("dropped", "no_job_id")
            return
        answer = operation.request(
            "retrieve", lambda trace: self.client.get("retrieve", job_id, operation.key_index, trace)
        )
        _finish_by_job(operation, answer)


def _finish_by_job(operation: Operation, answer: Answer) -> None:
    """End an operation as its last retrieval did: a job that failed fails it, though the request was answered well."""
    if answer.outcome == "ok" and answer.job_state == "failed":
        operation.finish("failed", "job_failed")
    else:
        operation.finish_as(answer)


OPERATIONS: dict[str, type[WorkflowUser]] = {
    "sync_run": SyncRunUser,
    "async_run": AsyncRunUser,
    "retrieval": RetrievalUser,
}


def user_classes(traffic: dict[str, tuple[str, int]]) -> list[type[locust.User]]:
    """A user class for each traffic entry, named after it.

    Args:
        traffic: operation and number of users, by name.
    """
    return [
        type(name, (OPERATIONS[operation],), {"traffic_name": name, "fixed_count": users, "abstract": False})
        for name, (operation, users) in traffic.items()
    ]
