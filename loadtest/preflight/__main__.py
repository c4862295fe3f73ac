"""``python -m loadtest.preflight``: checks with at most five requests whether a target can be loaded.

The process reads a ``PreflightOrder`` and writes a ``Preflight``, both as JSON. The API keys and the value of
``x-wf-endpoint`` come from the environment.
"""

import asyncio
import atexit
import gc
import sys
from typing import Final, Literal
from urllib.parse import quote

import msgspec

from loadtest.contract import FIRST_KIND, LIMIT_OF_KIND, REQUESTS, THROTTLED_STATUS, JobState, RequestKind
from loadtest.errors import LoadtestError
from loadtest.foreign_text import KeyFilter, visible
from loadtest.http_headers import ClockOffset, parse_date
from loadtest.preflight.client import UNKNOWN_JOB, Reply, TargetClient
from loadtest.record.run_info import Preflight, PreflightCheck, PreflightRequest
from loadtest.scenario import Scenario
from loadtest.targets import PREFLIGHT_KEYS, PreflightOrder, first_workflow, workflow_operation

_LEAST_TIMEOUT: Final = 10.0
LONGEST: Final = 20.0
"""Each request has the time-out of the first workflow's entry, but at least 10 s and at most 20 s."""
_START: Final = "Start it (`loadtest serve` starts the reference API), or check its URL."
_TLS: Final = "Check ca and client_certificate in the target's entry, and the host's name (docs/own-api.md)."
_TIME: Final = "executionTime"
_SECONDS: Final = (950.0, 1500.0)
"""If an answer's duration in ms ÷ executionTime is in this range, executionTime seems to be in seconds."""
_LEAST_S: Final = 0.1
"""Answers that took less than this (in s) are not tested, because their ratio may be in the range by chance."""
_KEYS, _LONGEST = 6, 40
"""A message names at most 6 fields of an answer, and shows at most 40 characters of a name or job state."""
_REMEDIES: Final = {
    400: "Check the parameters in the scenario.",
    401: "Check what the key may run.",
    403: "Check what the key may run.",
    404: "Check the workflow's name and WORKFLOW_ENDPOINT.",
}
"""Remedies by the status of the answer to a run or submit."""
_CHECKS: Final = ("reachable", "API", "key", "workflow", "answer", "clock")


class Checks:
    """The checks of one preflight, which tries at most three keys and runs the scenario's first workflow once."""

    def __init__(self, client: TargetClient, runner: asyncio.Runner, scenario: Scenario) -> None:
        self._client = client
        self._runner = runner
        self._traffic = first_workflow(scenario)
        self._keys = client.keys
        self._own = KeyFilter(client.keys)
        self._timeout = min(max(_LEAST_TIMEOUT, self._traffic.timeout if self._traffic else 0.0), LONGEST)
        self._found: dict[str, PreflightCheck] = {}
        self._sent: list[PreflightRequest] = []
        self._replies: list[Reply] = []

    def run(self) -> Preflight:
        if self._api() and self._other_keys():
            self._workflow()
        self._clock()
        unchecked = {name: PreflightCheck(name=name, result="unknown", words="not checked") for name in _CHECKS}
        return Preflight(checks=list((unchecked | self._found).values()), sent=self._sent)

    def _send(self, kind: RequestKind, *, job: str = "", body: object = None, key_index: int = 0) -> Reply:
        asked = self._client.ask(REQUESTS[kind], self._keys[key_index], self._timeout, job=job, body=body)
        self._replies.append(reply := self._runner.run(asked))
        self._sent.append(
            PreflightRequest(limit=LIMIT_OF_KIND[kind], kind=kind, key_index=key_index, unix_s=round(reply.sent_s, 4))
        )
        return reply

    def _note(self, name: str, words: str, remedy: str | None = None, *, known: bool = True) -> bool:
        """Record a check, and return whether to continue. A check with a remedy has failed.

        ``words`` may quote the target, so they are escaped and our keys are removed.
        """
        result: Literal["ok", "failed", "unknown"] = "failed" if remedy is not None else "ok" if known else "unknown"
        self._found[name] = PreflightCheck(
            name=name, result=result, words=visible(self._own.blank(words)), remedy=remedy or ""
        )
        return remedy is None

    def _api(self) -> bool:
        reply = self._send(RequestKind.RETRIEVE, job=UNKNOWN_JOB)
        if reply.failure is not None:
            return self._note("reachable", reply.failure, _TLS if "[SSL" in reply.failure else _START)
        self._note("reachable", f"answers in {reply.took_s * 1000:.0f} ms")
        if reply.status in {401, 403} and reply.is_error_body:
            self._note("API", "rejects with an error body, as documented")
            return self._refused(reply, 0)
        if reply.status == THROTTLED_STATUS:
            self._note("API", "429: the retrieval limit is exhausted", known=False)
            return self._note("key", "not rejected")
        if reply.status != 404 or not reply.is_error_body:
            return self._note(
                "API",
                f"an unknown job id was answered with {reply.summary} instead of 404 with an error body",
                "This is not the Workflow API: check the URL, up to the part before /v1.",
            )
        self._note("API", f"an unknown job id is answered with {reply.summary}")
        return self._note("key", "accepted")

    def _refused(self, reply: Reply, index: int) -> bool:
        which = f"key {index + 1} of {len(self._keys)}" if len(self._keys) > 1 else "the key"
        return self._note("key", f"{which} was rejected with {reply.summary}", "Check WORKFLOW_API_KEYS.")

    def _other_keys(self) -> bool:
        others = range(1, min(len(self._keys), PREFLIGHT_KEYS))
        for index in others:
            reply = self._send(RequestKind.RETRIEVE, job=UNKNOWN_JOB, key_index=index)
            if reply.failure is not None:
                return self._note("key", f"key {index + 1} of {len(self._keys)}: {reply.failure}", _START)
            if reply.status in {401, 403}:
                return self._refused(reply, index)
        if others:
            return self._note("key", f"{len(others) + 1} of {len(self._keys)} keys tried, none rejected")
        return True

    def _workflow(self) -> bool:
        traffic = self._traffic
        if traffic is None or traffic.workflow is None:
            words = "the scenario runs no workflow"
            return self._unseen(words, words)
        kind = FIRST_KIND[workflow_operation(traffic)]
        name = traffic.workflow
        reply = self._send(kind, body={"name": name, "parameters": traffic.parameters})
        if reply.late and traffic.timeout > reply.took_s:
            return self._unseen(f"{name}: {reply.failure}; the scenario waits {traffic.timeout:g} s")
        if reply.failure is not None:
            return self._note("workflow", f"{name}: {reply.failure}", "Try it manually, or raise its timeout.")
        if reply.status == THROTTLED_STATUS:
            return self._unseen(f"{name}: 429, its limit is exhausted")
        if reply.status == 400 and traffic.inputs is not None:
            return self._unseen(f"{name}: needs the parameters of {traffic.inputs}, which the preflight does not use")
        if reply.status != REQUESTS[kind].success:
            if reply.status == traffic.expect.status:
                self._note("workflow", f"{name}: answered with {reply.summary}, as the scenario expects")
                return self._note("answer", "as the scenario expects")
            remedy = _REMEDIES.get(reply.status, "Try it manually first.")
            return self._note("workflow", f"{name} was answered with {reply.summary}", remedy)
        self._note("workflow", f"{name} is accepted")
        return self._answer(reply, sync=kind == RequestKind.RUN)

    def _unseen(self, workflow: str, answer: str = "not seen") -> bool:
        return self._note("workflow", workflow, known=False) and self._note("answer", answer, known=False)

    def _answer(self, reply: Reply, *, sync: bool) -> bool:
        body = reply.fields
        remedy = "This is not the documented API: compare its answer with docs/contract.md."
        job, state = body.get("jobId"), body.get("status")
        if sync:
            checks = {"result": isinstance(body.get("result"), dict), _TIME: _is_number(body.get(_TIME))}
        else:
            checks = {"jobId": isinstance(job, str) and bool(job), "status": isinstance(state, str)}
        if lacking := [key for key, there in checks.items() if not there]:
            keys = ", ".join(key[:_LONGEST] for key in list(body)[:_KEYS] if key.isprintable())
            words = f"{'a run' if sync else 'a submit'}'s answer lacks {' and '.join(lacking)}"
            return self._note("answer", words + f"; it has {keys}" * bool(keys), remedy)
        if sync:
            if (ratio := in_seconds(body[_TIME], reply.took_s)) is not None:
                words = f"executionTime {body[_TIME]:g} looks like seconds: the answer took {ratio}"
                return self._note("answer", words, known=False)
            return self._note("answer", "result and executionTime, as documented")
        return self._retrieve(str(job), str(state), remedy)

    def _retrieve(self, job: str, state: str, remedy: str) -> bool:
        retrieved = self._send(RequestKind.RETRIEVE, job=quote(job, safe=""))
        if retrieved.status == THROTTLED_STATUS:
            return self._note("answer", "429: the retrieval limit is exhausted", known=False)
        found = retrieved.fields
        if retrieved.status != 200 or found.get("jobId") != job or not isinstance(found.get("status"), str):
            return self._note("answer", f"retrieval of the new job: {retrieved.failure or retrieved.summary}", remedy)
        odd = [each for each in dict.fromkeys((state, found["status"])) if each not in set(JobState)]
        if odd:
            listed = ", ".join(f"{each[:_LONGEST]!r}" for each in odd)
            return self._note("answer", f"job state {listed} is not documented and counts as pending", known=False)
        return self._note("answer", "jobId and status, as documented")

    def _clock(self) -> None:
        offset = ClockOffset()
        for reply in self._replies:
            if (date := parse_date(reply.headers.get("date", ""))) is not None:
                offset.see(date.timestamp(), reply.sent_s, reply.sent_s + reply.took_s)
        middle = (offset.low + offset.high) / 2
        half = (offset.high - offset.low) / 2
        if offset.known and half >= 0:
            self._note("clock", f"the server's differs from ours by {middle:+.1f} ± {max(0.05, half):.1f} s")
        elif offset.known:
            self._note("clock", "the Date headers contradict each other", known=False)
        elif self._replies and self._replies[0].failure is None:
            self._note("clock", "there is no Date header", known=False)


def in_seconds(execution: float, took_s: float) -> str | None:
    """Return an answer's duration as text if its executionTime seems to be in seconds, else None."""
    if not execution or took_s < _LEAST_S or not _SECONDS[0] <= took_s * 1000 / execution <= _SECONDS[1]:
        return None
    return f"{took_s * 1000:.0f} ms"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def main(order: PreflightOrder) -> bytes:
    """Run the preflight. Raises ``LoadtestError`` if loading the target is not allowed."""
    client = TargetClient(order, "preflight")
    with asyncio.Runner() as runner:
        try:
            return msgspec.json.encode(Checks(client, runner, Scenario.model_validate(order.scenario)).run())
        finally:
            runner.run(client.close())


if __name__ == "__main__":
    atexit.register(gc.freeze)  # see loadtest.report.__main__
    try:
        sys.stdout.buffer.write(main(msgspec.json.decode(sys.stdin.buffer.read(), type=PreflightOrder)))
    except LoadtestError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(int(error.exit_code))
