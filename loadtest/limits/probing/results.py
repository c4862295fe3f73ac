"""The order that starts a probe, the probe's findings, and sentences about the findings.

Processes exchange orders and findings as JSON. Rate-limit headers are compared with the answers. The probe's decisions
do not depend on the headers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Final, Literal

import msgspec

from loadtest.contract import LimitName
from loadtest.http_headers import parse_retry_after, remaining, stated_limits
from loadtest.limits import ALGORITHMS, AlgorithmName, LimiterSpec, Scope
from loadtest.limits.probing.evidence import Facts, ProbeAnswer, Who
from loadtest.record.run_info import TlsInfo
from loadtest.units import Limit
from loadtest.words import count

_MOST_NAMED: Final = 4
"""At most this many limiters are named; more are only counted."""
_ROUNDED_S: Final = 1.0
"""Rounding up to whole seconds (RFC 9110, 10.2.3) makes a correct Retry-After at most this many seconds too long."""
_OTHERS: Final[dict[Who, str]] = {"other key": "a second key", "other limit": "another limit"}
_SHARED: Final = {
    ("other key", True): "two keys from this address shared the limit: it is counted per account, per address or for "
    "all clients, not per key",
    ("other key", False): "a second key had a quota of its own",
    ("other limit", True): "requests of another limit were rejected while this limit was exhausted: a shared quota",
    ("other limit", False): "requests of another limit were accepted while this limit was exhausted",
}
"""Sentences about another key or another limit, by whether it shares the quota."""
PROBE_FILE: Final = "probe.json"
PROBE_SCHEMA: Final = 1
Compliance = Literal["as documented", "stricter", "looser", "other", "can't tell"]


class ProbeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A probe to run. The API keys and the value of ``x-wf-endpoint`` come from the environment.

    Attributes:
        listed: whether an entry of targets.toml allows the host. Loopback needs no entry.
        documented: documented count and window in s of each limit to probe.
        rate: maximum requests/s.
        requests: maximum number of requests for each limit. Default and maximum: 5.5 × its documented count.
        workflow: the workflow to run if a limit does not count requests that execute nothing; None to run none.
        tls: as in a target's entry.
    """

    url: str
    listed: bool
    documented: dict[LimitName, tuple[int, float]]
    rate: float = 100.0
    requests: int | None = None
    workflow: str | None = None
    tls: TlsInfo | None = None
    headers: dict[str, str] = {}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A limiter that may be in force.

    Attributes:
        count: smallest and largest possible N per window.
        window_s: smallest and largest possible window in s. For a bucket, both are the documented window.
        burst: smallest and largest possible burst; None for windows.
        phase_s: smallest and largest possible offset, in s, of the server's windows from multiples of the window on our
            clock. None if clock error explains the offset, and for all algorithms except fixed-window.
        round_down: as in ``LimiterSpec``.
    """

    algorithm: AlgorithmName
    count_rejected: bool
    count: tuple[float, float]
    window_s: tuple[float, float]
    burst: tuple[int, int] | None = None
    phase_s: tuple[float, float] | None = None
    round_down: bool = False

    @property
    def name(self) -> str:
        stepped = (", rounding down" if self.burst is None else ", refilled in whole seconds") * self.round_down
        return f"{self.algorithm}{stepped}{', counting rejected requests' * self.count_rejected}"

    @property
    def numbers(self) -> str:
        words = f"{_between(*self.count)} per {_between(*self.window_s)} s"
        if self.phase_s is not None:
            words += f", offset by {self.phase_s[0]:.3g} to {self.phase_s[1]:.3g} s from this machine's clock"
        return words if self.burst is None else f"{words}, burst {_between(*self.burst)}"

    @property
    def words(self) -> str:
        return f"{self.name}: {self.numbers}"


class ModelFit(msgspec.Struct, frozen=True, kw_only=True):
    """The agreement of a limiter with the answers.

    Attributes:
        log_ratio: natural log of the ratio of the limiter's likelihood to that of the best limiter.
        ruled_out: the observation that excluded it, as text; empty if the limiter may be in force.
    """

    limiter: str
    numbers: str
    log_ratio: float
    ruled_out: str = ""


class ProbeBurst(msgspec.Struct, frozen=True, kw_only=True):
    """A burst: seconds after the probe's start, and numbers of sent and of accepted requests."""

    at_s: float
    sent: int
    passed: int


class StatedNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of the enforced limit. All limiters that may be in force share them, within narrow bounds.

    Attributes:
        count: smallest and largest N per ``window_s``. For buckets, N is the refill in that time.
        window_s: the window. For buckets, this is the documented window.
        burst: smallest and largest number of requests that a bucket accepts at once; None for windows.
    """

    count: tuple[float, float]
    window_s: float
    burst: tuple[int, int] | None = None

    @property
    def rate(self) -> tuple[float, float]:
        return self.count[0] / self.window_s, self.count[1] / self.window_s

    @property
    def words(self) -> str:
        burst = "" if self.burst is None else f", {_between(*self.burst)} at once"
        return f"{_between(*self.count)} per {self.window_s:g} s{burst}"


class LimitFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A probe's findings about one limit.

    Attributes:
        documented: count and window in s.
        standing: the limiters that may be in force. If ``why`` is empty, all have the same algorithm, except that
            windows of a second or less may begin with a request or by the clock.
        stated: the enforced numbers; None if they are unknown, or differ too much among ``standing``.
        seen: observations, as text, that suggest a long window, a ban, a limiter that a probe does not know, or a busy
            machine.
        scope: ``name`` if two keys shared the quota, ``key-and-name`` if they did not; None if unknown.
        shared: whether the second key, or the other limit, shares the probed quota; None if unclear.
        held: whether accepted requests were delayed as in a queue.
        statuses: number of rejections by status.
        retry_after: accuracy of the rejections' Retry-After, as text.
        waits: False if there were rejections, but none with a Retry-After.
        headers: content of other rate-limit headers, as text.
        executed: number of requests that ran a workflow.
        jobs_of_rejected: number of rejected requests whose answer names a job.
        why: the missing evidence, if the limiter is not identified.
    """

    limit: LimitName
    documented: tuple[int, float]
    verdict: Compliance
    standing: list[Standing]
    requests: int
    rejected: int = msgspec.field(name="refused")
    seconds: float
    stated: StatedNumbers | None = None
    facts: Facts = Facts()
    seen: list[str] = []
    fits: list[ModelFit] = []
    bursts: list[ProbeBurst] = []
    scope: Scope | None = None
    shared: dict[Who, bool | None] = {}
    held: bool = False
    statuses: dict[int, int] = {}
    retry_after: str = ""
    waits: bool = True
    headers: str = ""
    executed: int = 0
    jobs_of_rejected: int = msgspec.field(name="jobs_of_refused", default=0)
    why: str = ""

    @property
    def limit_found(self) -> Limit | None:
        """The enforced limit, for an entry of targets.toml; None if its numbers are unknown."""
        if self.stated is None:
            return None
        if self.verdict == "as documented":
            return Limit(*self.documented)
        return Limit(max(1, round(sum(self.stated.count) / 2)), self.stated.window_s)

    @property
    def spec(self) -> LimiterSpec | None:
        """The identified limiter; None if none is identified."""
        if not self.standing or self.why:
            return None
        one, round_down = self.standing[0], all(each.round_down for each in self.standing)
        burst = None if one.burst is None else round(sum(one.burst) / 2)
        phase = 0.0 if one.phase_s is None else sum(one.phase_s) / 2
        return LimiterSpec(one.algorithm, burst, one.count_rejected, self.scope or "key-and-name", phase, round_down)


def known(
    findings: Sequence[LimitFinding], *, round_down: bool = False
) -> tuple[dict[LimitName, Limit], LimiterSpec | None]:
    """Return the limits that agree with the documentation, and their limiter.

    Limits with another verdict are left out, because their numbers are uncertain. The limiter is None if a
    limit is left out, if limits have different limiters, or if a limiter is unknown. If ``round_down`` differs among
    the limiters that may be in force, the argument applies.
    """
    agreeing = ((each.limit, each.limit_found) for each in findings if each.verdict == "as documented")
    limits = {name: limit for name, limit in agreeing if limit is not None}
    specs = {each.spec if each.limit in limits else None for each in findings}
    limiter = specs.pop() if len(specs) == 1 else None
    differ = any(len({one.round_down for one in each.standing}) > 1 for each in findings)
    if limiter is not None and differ and ALGORITHMS[limiter.algorithm].can_round_down:
        limiter = replace(limiter, round_down=round_down)
    return limits, limiter


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The content of probe.json: the target, and the findings about each of its limits."""

    schema: int = PROBE_SCHEMA
    target: str
    findings: list[LimitFinding]
    embedded: bool = False
    """Whether the probe started the target, and stopped it at the end."""


class ProbeProgress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """A probe's progress, sent after each burst."""

    limit: LimitName
    experiment: int
    requests: int
    passed: int
    seconds: float
    standing: list[str]
    note: str = ""


class Found(msgspec.Struct, frozen=True, kw_only=True, tag="found"):
    """The end of one limit's probe, with its finding."""

    finding: LimitFinding


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The failure of a probe: its reason, a remedy and an exit code."""

    words: str
    remedy: str
    code: int


ProbeMessage = ProbeProgress | Found | Failed


def _between(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def verdict_words(found: LimitFinding) -> str:
    """Return the verdict on a limit, with the numbers found and the documented numbers."""
    documented = f"{count(found.documented[0])} per {found.documented[1]:g} s"
    if found.verdict == "as documented":
        return f"{found.verdict}: {documented}"
    least = "at least " * (found.verdict == "looser")
    numbers = "" if found.stated is None else f": {least}{found.stated.words}"
    return f"{found.verdict}{numbers}, documented {documented}"


def facts(found: LimitFinding) -> tuple[tuple[str, str], ...]:
    """Return the findings as (label, words) pairs."""
    accepted = found.facts
    window = found.documented[1]
    windows = ", ".join(f"{passed} of {sent}" for passed, sent in accepted.windows)
    passed, seconds = accepted.sustained or (0, 0.0)
    hidden = not found.why and len({each.algorithm for each in found.standing}) > 1
    statuses = ", ".join(f"{number} with {status}" for status, number in sorted(found.statuses.items()))
    cost = f"{found.requests} requests, {found.rejected} of them rejected, {found.seconds:.0f} s; "
    cost += f"{found.executed} runs" if found.executed else "nothing was executed"
    cost += f"; {found.jobs_of_rejected} rejected requests name a job" if found.jobs_of_rejected else ""
    rows = (
        ("accepted", f"{windows} in each {window:g} s with requests; at most {accepted.longest_burst} in one burst"),
        ("", f"{passed} in the {seconds:.3g} s between the first and the last rejection" if accepted.sustained else ""),
        ("limit", _limit_words(found)),
        ("limiter", _limiter_words(found.standing)),
        ("", "the network hides whether windows of up to 1 s begin with a request or by the clock" if hidden else ""),
        ("not sure", found.why),
        *(("seen", each) for each in found.seen),
        *(("shared", each) for each in _shared(found)),
        ("rejections", statuses or "none"),
        ("Retry-After", found.retry_after),
        ("headers", found.headers),
        ("cost", cost),
    )
    return tuple((name, words) for name, words in rows if words)


def _limiter_words(standing: Sequence[Standing]) -> str:
    limiters = list(dict.fromkeys(each.words for each in standing))
    if len(limiters) > _MOST_NAMED:
        return f"unknown; {len(limiters)} limiters decide as observed"
    return "; or ".join(limiters) or "unknown"


def _limit_words(found: LimitFinding) -> str:
    numbers, (documented, window) = found.stated, found.documented
    if numbers is None:
        more = "; more was accepted than the documented limit accepts, and other clients can't cause that"
        return "unknown" + more * (found.verdict == "looser")
    times = sum(numbers.rate) / 2 / (documented / window)
    rate = f"{numbers.words}: {times:.3g} times the documented rate"
    if found.verdict == "looser":
        return f"at least {rate}; other clients can't cause that"
    if found.verdict == "stricter":
        used = documented - sum(numbers.count) / 2 * window / numbers.window_s
        uses = f"uses {used:.3g} per {window:g} s" if used > 0 else "shares it"
        return f"{numbers.words}: either the limit is lower than documented, or another client {uses}"
    return numbers.words if found.verdict == "as documented" else rate


def _shared(found: LimitFinding) -> list[str]:
    known = {who: found.shared.get(who) for who in _OTHERS}
    unknown = [_OTHERS[who] for who, shared in known.items() if shared is None]
    words = [_SHARED[who, shared] for who, shared in known.items() if shared is not None]
    return words + [f"unknown for {' and '.join(unknown)}"] * bool(unknown)


def retry_after(answers: Sequence[ProbeAnswer]) -> str:
    """Describe how accurate the rejections' ``Retry-After`` was.

    A correct ``Retry-After`` ends between the last rejected request and the next accepted request, apart from rounding.
    """
    rejected = [each for each in answers if not each.passed]
    having = [each for each in rejected if "retry-after" in each.headers]
    if not having:
        return "none was sent" if rejected else ""
    judged = early = late = 0
    for place, each in enumerate(answers):
        if each.passed or (over := _over(each)) is None:
            continue
        following = [other for other in answers[place + 1 :] if other.sent > each.answered]
        accepted = next((other for other in following if other.passed), None)
        if accepted is None:
            continue
        judged += 1
        # A rejected request that overlaps the accepted request may have arrived later, so it is ignored.
        earlier = following[: following.index(accepted)]
        before = (other.sent for other in earlier if other.answered <= accepted.sent)
        early += over < max(before, default=each.sent) - 0.05
        late += over > accepted.answered + _ROUNDED_S + 0.05
    share = f"{len(having)} of {len(rejected)} rejections have one"
    if not judged:
        return f"{share}; none can be checked: no request was accepted later, or the header is unreadable"
    if not early and not late:
        return f"{share}; none is contradicted"
    return f"{share}; of {judged} that can be checked, {early} were too short and {late} too long"


def _over(each: ProbeAnswer) -> float | None:
    """Return the unix time when a rejection's Retry-After ends; None if it is missing or unreadable."""
    wanted = parse_retry_after(each.headers.get("retry-after", ""))
    return wanted.timestamp() if isinstance(wanted, datetime) else None if wanted is None else each.answered + wanted


def rate_limit_headers(answers: Sequence[ProbeAnswer]) -> str:
    """Describe the limits that headers state, and how often their remaining count was wrong."""
    texts = Counter(str(limit) for each in answers for limit in stated_limits(each.headers))
    promised = [
        following.passed
        for each, following in pairwise(answers)
        if following.sent >= each.answered and (remaining(each.headers) or 0) > 0
    ]
    if not texts and not promised:
        return "none" if answers else ""
    words = ", ".join(text for text, _ in texts.most_common(3)) or "no limit"
    if promised:
        wrong = promised.count(False)
        words += f"; of {len(promised)} answers that promised room, {wrong} were followed by a rejection"
    return words
