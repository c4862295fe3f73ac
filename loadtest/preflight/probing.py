"""``python -m loadtest.preflight.probing``: probes a target's limits. Reads a ProbeOrder, writes ProbeMessage lines.

It sends the requests that ``loadtest.limits.probing`` chooses, at a limited rate. The API keys and the value of
``x-wf-endpoint`` come from the environment.
"""

import asyncio
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from loadtest.contract import DOCUMENTED, LIMIT_NAMES, REQUESTS, THROTTLED_STATUS, LimitName, Request
from loadtest.errors import LoadtestError, TargetError
from loadtest.limits import ALGORITHMS
from loadtest.limits.probing.evidence import WINDOWS, ProbeAnswer, VolleyOrder, Who
from loadtest.limits.probing.probe import REQUESTS as PROBE_REQUESTS
from loadtest.limits.probing.probe import Prober
from loadtest.limits.probing.results import (
    Failed,
    Found,
    LimitFinding,
    ProbeMessage,
    ProbeOrder,
    ProbeProgress,
    rate_limit_headers,
    retry_after,
)
from loadtest.preflight.client import UNKNOWN_JOB, Reply, TargetClient
from loadtest.units import Limit

_UNKNOWN_WORKFLOW: Final = "loadtest-probe-no-such-workflow"
_UNAVAILABLE: Final = 503
_TIMEOUT_S: Final = 120.0
_PATIENCE: Final = 4.0
"""The sender waits for the answers to a burst at most this multiple of the probe's patience, unless it is the first."""
_LATE_S: Final = 0.1
"""This machine counts as busy if a tenth of the requests leave more than this many s late (bench/README.md)."""
_LATE: Final = 0.1
"""Lateness up to this share of the documented window is tolerated, too, because it matters less in a long window."""
_REST: Final = max(each.counted_windows for each in ALGORITHMS.values())
"""Number of documented windows without requests before a probe is repeated. No algorithm counts requests for longer."""
REQUESTS_OF: Final[dict[LimitName, Request]] = {request.limit: request for request in reversed(REQUESTS.values())}


@dataclass(slots=True)
class Sent:
    """A request of a probe. ``at`` is the intended time of sending in unix s, and ``sent`` is the real time."""

    at: float
    sent: float = 0.0
    reply: Reply | None = None
    awaited: bool = False
    """Whether the answer arrived before the probe continued."""

    @property
    def status(self) -> int:
        """Status of the answer; 0 without one."""
        return 0 if self.reply is None else self.reply.status

    @property
    def answered(self) -> float:
        """Time of the answer in unix s; infinite without one."""
        return math.inf if self.reply is None or not self.status else self.reply.sent_s + self.reply.took_s

    @property
    def refused(self) -> bool:
        """Whether a limit rejected the request. Some servers reject with 503."""
        return self.status in {THROTTLED_STATUS, _UNAVAILABLE}


class Sender:
    """Sends a probe's requests to one target. The second API key shows whether keys share a quota."""

    def __init__(self, client: TargetClient) -> None:
        self._client = client
        self.now = client.now
        self._workflow: str | None = None
        self._pending: set[asyncio.Task[None]] = set()
        self.replies: list[Sent] = []
        """Requests to the probed quota since ``begin``."""
        self.sent = self.rejected = 0
        """Requests sent and rejected since the start, with all keys."""

    def begin(self, workflow: str | None) -> None:
        """Clear all replies. Later requests run ``workflow``; if it is None, they execute nothing."""
        self._workflow = workflow
        self.replies.clear()

    async def volley(self, send: VolleyOrder, limit: LimitName, *, first: bool = False) -> list[ProbeAnswer]:
        """Send a burst, and wait while its answers arrive.

        Raises ``TargetError`` if a request failed, or if the first answer rejects the key or is not from this API.
        """
        await asyncio.sleep(max(0.0, send.at - self.now()))
        other = max((each for each in LIMIT_NAMES if each != limit), key=lambda each: DOCUMENTED[each].rate)
        request = REQUESTS_OF[other if send.who == "other limit" else limit]
        key = self._client.keys[1 if send.who == "other key" else 0]
        begin = self.now()
        replies = [Sent(begin + after) for after in send.after]
        tasks = [asyncio.create_task(self._send(each, request, key)) for each in replies]
        await asyncio.sleep(send.after[-1])
        waiting, longest = set(tasks), self.now() + send.patience * (1 if send.held else _PATIENCE)
        # Wait while answers arrive, because a busy machine reads them late. If a queue holds requests, wait less.
        while waiting and (first or self.now() < longest):
            done, waiting = await asyncio.wait(
                waiting, timeout=_TIMEOUT_S if first else send.patience, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
        self._pending |= waiting
        for task in waiting:
            task.add_done_callback(self._pending.discard)
        for each in replies:
            _check(each, limit, first=first)
            each.awaited = bool(each.status)
        self.sent += len(replies)
        self.rejected += sum(reply.refused for reply in replies)
        if send.who == "own":
            self.replies += replies
        return [ProbeAnswer(reply.sent, reply.answered, not reply.refused, send.who) for reply in replies]

    async def _send(self, sent: Sent, request: Request, key: str) -> None:
        await asyncio.sleep(max(0.0, sent.at - self.now()))
        executes = request.method == "POST"
        body, job = ({"name": self._workflow or _UNKNOWN_WORKFLOW}, "") if executes else (None, UNKNOWN_JOB)
        sent.sent = self.now()
        sent.reply = await self._client.ask(request, key, _TIMEOUT_S, job=job, body=body)

    async def end(self) -> None:
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        await self._client.close()


def _check(sent: Sent, limit: LimitName, *, first: bool) -> None:
    """Check that a request did not fail, and that the first answer is from this API and accepts the key."""
    if (reply := sent.reply) is None:
        return
    if reply.failure is not None:
        raise TargetError(f"a request got no answer: {reply.failure}", "Check the target, then probe again.")
    if first and reply.status in {401, 403}:
        raise TargetError(f"the key was rejected with {reply.status}", "Check WORKFLOW_API_KEYS.")
    if first and not sent.refused and reply.fields.keys().isdisjoint({"error", "jobId", "result"}):
        raise TargetError(
            f"a request on {limit} was answered with {reply.status} instead of JSON of the Workflow API",
            "Check the target's URL: scheme, host, port, and any path before /v1.",
        )


@dataclass(frozen=True, slots=True)
class _Attempts:
    """Probes of one limit. They end at ``most`` requests of the sender, or at ``until`` (unix seconds)."""

    sender: Sender
    limit: LimitName
    documented: Limit
    most: int
    until: float
    rate: float
    others: tuple[Who, ...]
    tell: Callable[[ProbeMessage], None]

    def left(self, rest: float = 0.0) -> bool:
        """Whether requests and time are left for another probe after ``rest`` windows of silence."""
        enough = self.most - self.sender.sent >= 2 * self.documented.count
        return enough and self.until - self.sender.now() >= (2 + rest) * self.documented.window

    async def probe(self, workflow: str | None) -> tuple[LimitFinding, int]:
        """Return a finding, and how often the probe began again because this machine was too busy."""
        again, found, sender = -1, None, self.sender
        while found is None:
            again += 1
            now = sender.now() + (again > 0) * _REST * self.documented.window
            sender.begin(workflow)
            prober = Prober(
                self.limit,
                self.documented,
                now,
                self.rate,
                others=self.others,
                requests=self.most - sender.sent,
                seconds=self.until - now,
                clock=sender.now,
            )
            found = await self._drive(prober)
        return found, again

    async def _drive(self, prober: Prober) -> LimitFinding | None:
        """Carry out a probe. Return None if this machine is too busy and another probe is possible."""
        sender = self.sender
        replies = self.sender.replies
        window = self.documented.window
        run, begin, requests, passed = prober.run(), sender.now(), 0, 0
        send = next(run)
        while True:
            answers = await sender.volley(send, self.limit, first=not requests)
            requests, passed = requests + len(answers), passed + sum(answer.passed for answer in answers)
            busy = self.left(_REST) and (_late_s(replies) > max(_LATE_S, _LATE * window) or _overtaken(replies))
            progress = ProbeProgress(
                limit=self.limit,
                experiment=prober.experiments,
                requests=requests,
                passed=passed,
                seconds=round(sender.now() - begin, 1),
                standing=[model.algorithm for model in prober.models],
                note="this machine is too busy, so the probe begins again" if busy else "",
            )
            self.tell(progress)
            if busy:
                return None
            try:
                send = run.send(answers)
            except StopIteration as stop:
                found: LimitFinding = stop.value
                return found


async def probe_limit(
    sender: Sender, order: ProbeOrder, limit: LimitName, keys: int, tell: Callable[[ProbeMessage], None]
) -> LimitFinding:
    """Probe one limit with requests that execute nothing. If none is rejected, probe it again with a workflow.

    The second probe gets the requests and the time that the first probe left. It is omitted if they are not enough, if
    the order has no workflow, and for the retrieval limit. A probe begins again if this machine is too busy and enough
    requests and time remain.

    Raises:
        TargetError: if the target does not answer, or is not this API.
    """
    count, window = order.documented[limit]
    others: tuple[Who, ...] = ("other limit", "other key") if keys > 1 else ("other limit",)
    begin, sent, rejected = sender.now(), sender.sent, sender.rejected
    total, until = int(PROBE_REQUESTS * count), begin + WINDOWS * window
    most = sent + min(total, order.requests or total)
    attempts = _Attempts(sender, limit, Limit(count, window), most, until, order.rate, others, tell)
    (found, again), executed = await attempts.probe(None), 0
    name = order.workflow
    runs = REQUESTS_OF[limit].executes
    if not found.rejected and runs and name is not None and attempts.left():
        passed = sender.sent - sender.rejected
        found, again = await attempts.probe(name)
        executed = sender.sent - sender.rejected - passed
    elif not found.rejected:  # perhaps the limit does not count requests that execute nothing
        left = (
            ": allow --workflow NAME"
            if name is None
            else f": the remaining requests or seconds are too few to run {name}"
        )
        why = f"{found.why}; perhaps requests that execute nothing are not counted{left if runs else ''}"
        found = replace(found, verdict="can't tell", why=why)
    found = _finding(found, sender.replies, executed, again)
    requests = sender.sent - sent
    rejections = sender.rejected - rejected
    return replace(found, requests=requests, rejected=rejections, seconds=round(sender.now() - begin, 1))


def _late_s(replies: Sequence[Sent]) -> float:
    """Return the lateness in s that a tenth of the requests reached or exceeded."""
    return sorted(reply.sent - reply.at for reply in replies)[len(replies) * 9 // 10] if replies else 0.0


def _overtaken(replies: Sequence[Sent], *, waits: bool = True) -> bool:
    """Whether answers came after the probe continued. If accepted requests may wait, only rejections count."""
    return any(reply.status and not reply.awaited and (reply.refused or not waits) for reply in replies)


def _finding(found: LimitFinding, replies: Sequence[Sent], executed: int, again: int) -> LimitFinding:
    answers = [
        ProbeAnswer(each.sent, each.answered, not each.refused, headers=each.reply.headers)
        for each in replies
        if each.reply is not None and each.status
    ]
    if _overtaken(replies, waits=found.held or executed > 0):
        late = "answers came after later requests, so no limiter can be excluded: this machine or the API was busy"
        verdict = "looser" if found.verdict == "looser" else "can't tell"
        found = replace(found, verdict=verdict, standing=[], stated=None, fits=[], why=late)
    rejected = [each for each in answers if not each.passed]
    return replace(
        found,
        seen=[*found.seen, *_busy(replies, again)],
        statuses=dict(Counter(reply.status for reply in replies if reply.refused)),
        retry_after=retry_after(answers),
        waits=not rejected or any("retry-after" in each.headers for each in rejected),
        headers=rate_limit_headers(answers),
        executed=executed,
        jobs_of_rejected=sum("jobId" in each.reply.fields for each in replies if each.refused and each.reply),
    )


def _busy(replies: Sequence[Sent], again: int) -> list[str]:
    late, begun = _late_s(replies), f", and the probe began {again + 1} times" * bool(again)
    if late < _LATE_S and not again:
        return []
    words = f"a tenth of the requests were sent at least {late:.2g} s late{begun}"
    return [f"this machine was busy: {words}; probe again when it is idle"]


async def probe(order: ProbeOrder, tell: Callable[[ProbeMessage], None]) -> None:
    """Probe all limits of an order, one after the other.

    Raises ``LoadtestError`` if the target is not allowed, fails to answer, or is not this API.
    """
    client = TargetClient(order, "probe")
    sender = Sender(client)
    try:
        for limit in order.documented:
            tell(Found(finding=await probe_limit(sender, order, limit, len(client.keys), tell)))
    finally:
        await sender.end()


def _tell(message: ProbeMessage) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        asyncio.run(probe(msgspec.json.decode(sys.stdin.buffer.read(), type=ProbeOrder), _tell))
    except LoadtestError as error:
        _tell(Failed(words=error.message, remedy=error.remedy, code=int(error.exit_code)))
        sys.exit(int(error.exit_code))
