"""Locust user classes. Each user carries out arrivals of one traffic entry, one at a time."""

import importlib
import inspect
import sys
import time
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import gevent
import locust
from locust.env import Environment

from loadtest.contract import (
    FIRST_KIND,
    JOB_KINDS,
    JOB_REASONS,
    TERMINAL,
    JobState,
    Operation,
    Outcome,
    Reason,
    RequestKind,
)
from loadtest.errors import InputError
from loadtest.load.client import Answer, WorkflowClient
from loadtest.load.operation import RunningOperation
from loadtest.load.payloads import UNKNOWN_JOB
from loadtest.load.pool import next_poll
from loadtest.load.request_budget import BudgetSpentError
from loadtest.load.session import Session, session_of
from loadtest.record.run_info import TrafficPlan
from loadtest.scenario import Scenario, Traffic
from loadtest.schedule import Arrival
from loadtest.words import suggestion


class WorkflowUser(locust.User):
    """Takes arrivals from the pool of its traffic entry. ``perform`` carries out arrivals without a ``mistake``."""

    abstract = True
    traffic_name: ClassVar[str]
    """Name of the traffic entry. ``user_classes`` sets it."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.session: Session = session_of(environment)
        self.entry = self.session.entries[self.traffic_name]
        self.client = WorkflowClient(self.session.endpoint, self.entry.timeouts)

    @locust.task
    def operate(self) -> None:
        """Carry out all arrivals in one task, because Locust's wait between tasks would delay them."""
        while True:
            free_ns = time.monotonic_ns()
            self._carry_out(self.entry.pool.take(), free_ns)

    def _carry_out(self, arrival: Arrival, free_ns: int) -> None:
        """Carry out an arrival, which ends with exactly one outcome."""
        operation = RunningOperation(self.session, self.entry, arrival, free_ns, self.client.connection)
        try:
            self.session.endpoint.budget.take_operation()
            if operation.sample.mistake is None:
                self.perform(operation)
            else:
                self._send_invalid(operation)
        except BudgetSpentError:
            begun = operation.sample.start is not None
            operation.finish(Outcome.TIMED_OUT if begun else Outcome.DROPPED, Reason.LEASH)
        except gevent.GreenletExit:
            operation.finish(Outcome.TIMED_OUT, Reason.DRAIN)
            raise
        except Exception as error:
            # The error is the generator's, not the target's. The arrival is recorded as failed, and the run is aborted.
            operation.finish(Outcome.FAILED, Reason.HARNESS_ERROR)
            if self.session.bug is None:
                # Only the first error is raised again, so that Locust logs one traceback.
                self.session.bug = traceback.format_exc()
                self.session.user_error = _blame(type(self).__bases__[0], error)
                raise

    def perform(self, operation: RunningOperation) -> None:
        raise NotImplementedError

    def conclude(self, operation: RunningOperation, answer: Answer) -> None:
        """Finish an operation as its last answer says. If the answer is ok but not as expected, the operation fails."""
        reason = self._failure(operation, answer) if answer.outcome == Outcome.OK else None
        if reason is None:
            operation.finish_as(answer)
        else:
            operation.finish(Outcome.FAILED, reason)

    def _failure(self, operation: RunningOperation, answer: Answer) -> Reason | None:
        """Return why an operation failed although its last answer is ok, or None if it did not fail."""
        if operation.contradiction:
            return operation.contradiction
        wanted = self.entry.traffic.expect.job or JobState.COMPLETED
        if answer.job_state in TERMINAL and answer.job_state != wanted:
            return JOB_REASONS[JobState(answer.job_state)]
        if self.entry.matcher is not None and answer.result is not None:
            operation.sample.result_matched = matched = self.entry.matcher.matches(answer.result)
            return None if matched else Reason.WRONG_RESULT
        return None

    def _post(self, operation: RunningOperation, kind: RequestKind, key: int, body: bytes | None = None) -> Answer:
        """Run or submit the entry's workflow, by default with the arrival's inputs."""
        content = body or self.entry.bodies.of(operation.arrival.number)
        return operation.begin(kind, lambda trace: self.client.post(kind, content, key, trace, operation.expected))

    def _get(self, operation: RunningOperation, kind: RequestKind, key: int, job_id: str) -> Answer:
        return operation.begin(kind, lambda trace: self.client.get(kind, job_id, key, trace, operation.expected))

    def on_stop(self) -> None:
        self.client.connection.close()
        # Listeners must receive all requests before the event test_stop.
        self.session.recorder.count_all()

    def _send_invalid(self, operation: RunningOperation) -> None:
        """Send a deliberately wrong request. It is ok if the response is the documented error."""
        mistake = operation.sample.mistake or ""
        wrong_key = mistake == "bad_key"
        key = self.session.endpoint.wrong_key if wrong_key else operation.key_index
        kind = FIRST_KIND[self.entry.operation]
        if kind in JOB_KINDS:
            known = self.entry.job_ids.pick(operation.arrival.number, operation.key_index) if wrong_key else None
            answer = self._get(operation, kind, key, known or UNKNOWN_JOB)
        else:
            answer = self._post(operation, kind, key, self.entry.bodies.wrong.get(mistake))
        operation.finish_as(answer)


class SyncRunUser(WorkflowUser):
    """Runs a workflow and waits for its result."""

    abstract = True

    def perform(self, operation: RunningOperation) -> None:
        self.conclude(operation, self._post(operation, RequestKind.RUN, operation.key_index))


class AsyncRunUser(WorkflowUser):
    """Submits a job and polls it until it ends, as one operation. A 429 to a poll does not end the operation."""

    abstract = True

    def perform(self, operation: RunningOperation) -> None:
        submit = self._post(operation, RequestKind.SUBMIT, operation.key_index)
        if submit.outcome != Outcome.OK or submit.job_id is None:
            operation.finish_as(submit)
            return
        self.session.own_jobs.add(submit.job_id, operation.key_index)
        answer = self._poll(operation, submit.job_id, submit.exchange.end)
        if answer is None:
            operation.finish(Outcome.TIMED_OUT, Reason.GIVE_UP)
        else:
            self.conclude(operation, answer)

    def _poll(self, operation: RunningOperation, job_id: str, accepted: int) -> Answer | None:
        """Poll until an answer ends the operation. Return this answer, or None if the polling policy gives up."""
        polling, last, number = self.entry.traffic.polling, accepted, 1
        send = partial(self.client.get, RequestKind.POLL, job_id, operation.key_index)
        while True:
            draw = self.entry.draw(operation.arrival.number, "poll", number) if polling.jitter else 1.0
            due = next_poll(polling, accepted, last, number, draw, pacer=self.entry.pacer)
            if due is None:
                return None
            gevent.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
            answer = operation.request(RequestKind.POLL, send, intended_ns=due, poll=number)
            pending = answer.outcome == Outcome.OK and answer.job_state not in TERMINAL
            if not pending and answer.outcome != Outcome.THROTTLED:
                return answer
            last, number = answer.exchange.end, number + 1


class RetrievalUser(WorkflowUser):
    """Retrieves existing jobs."""

    abstract = True

    def perform(self, operation: RunningOperation) -> None:
        job_id = self.entry.job_ids.pick(operation.arrival.number, operation.key_index)
        if job_id is None:
            operation.finish(Outcome.DROPPED, Reason.NO_JOB_ID)
            return
        kind = FIRST_KIND[self.entry.operation]
        self.conclude(operation, self._get(operation, kind, operation.key_index, job_id))


USER_CLASSES: dict[str, type[WorkflowUser]] = {
    Operation.SYNC_RUN: SyncRunUser,
    Operation.ASYNC_RUN: AsyncRunUser,
    Operation.RETRIEVAL: RetrievalUser,
}


def user_classes(scenario: Scenario, plans: Mapping[str, TrafficPlan], base: Path) -> list[type[locust.User]]:
    """Create a Locust user class for each traffic entry, named after the entry. Raise the errors of ``find_class``."""
    classes = []
    for name, plan in plans.items():
        attributes = {"traffic_name": name, "fixed_count": plan.users, "abstract": False}
        classes.append(type(name, (find_class(name, scenario.traffic[name], base),), attributes))
    return classes


def find_class(name: str, traffic: Traffic, base: Path) -> type[WorkflowUser]:
    """Return an entry's user class. Raise ``InputError`` if the entry names a class that cannot be used.

    The module of the class may be in ``base`` or in the working directory.
    """
    base_class = USER_CLASSES[traffic.operation]
    if traffic.user is None:
        return base_class
    where = f"traffic.{name}.user = {traffic.user!r}"
    module, _, attribute = traffic.user.partition(":")
    for folder in (str(base.resolve()), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}."):
            raise InputError(
                f"{where}: there is no module {missing!r} in {base} or in the working directory", "Write module:Class."
            ) from None
        # Other errors during the import are errors of the module itself.
        if isinstance(error, SyntaxError):
            place = f"{Path(error.filename or '?').name}:{error.lineno}"
        else:
            frames = [each for each in traceback.extract_tb(error.__traceback__) if "importlib" not in each.filename]
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
        raise InputError(
            f"{where}: your module ({place}) raised {type(error).__name__}: {error}", f"Mend {place}."
        ) from error
    if not hasattr(loaded, attribute):
        known = [name for name, value in vars(loaded).items() if isinstance(value, type)]
        raise InputError(f"{where}: {module} has no class {attribute!r}{suggestion(attribute, known)}", "")
    found = getattr(loaded, attribute)
    if not (isinstance(found, type) and issubclass(found, base_class)):
        raise InputError(f"{where} is not a subclass of {base_class.__name__}", "See docs/locust.md#user-classes.")
    return found


def _blame(user_class: type, error: Exception) -> str | None:
    """Describe an error of the scenario's own class, with the line that raised it. Return None for other errors."""
    if user_class in USER_CLASSES.values():
        return None
    file = inspect.getfile(user_class)
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
    if not lines:
        return None
    return f"your class {user_class.__name__} ({Path(file).name}:{lines[-1]}) raised {type(error).__name__}: {error}"
