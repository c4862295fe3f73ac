"""A probe's order and findings, as typed values that travel between processes as JSON.

Rate-limit headers are compared with the answers; no decision of the probe depends on them.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

from loadtest.contract import LimitName
from loadtest.http_headers import parse_retry_after
from loadtest.limits import ALGORITHMS, CONCURRENCY, AlgorithmName, LimiterSpec, Scope
from loadtest.limits.probing.cells import Model
from loadtest.limits.probing.evidence import Who
from loadtest.limits.probing.models import Bucket, Concurrency
from loadtest.limits.probing.probe import RATE_SAME, ProbeFinding
from loadtest.record.run_info import TlsInfo
from loadtest.units import Limit

_HOLDS: Final = next(each.name for each in ALGORITHMS.values() if each.holds)
Compliance = Literal["as documented", "stricter", "looser", "can't tell"]


class ProbeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A probe to run. Keys and endpoint come from the environment.

    Attributes:
        url: the base URL.
        listed: whether an entry allows a host other than loopback.
        documented: the limits to probe: documented count and window in s.
        rate: maximum requests/s.
        requests: maximum over all limits; None for four times each documented count.
        workflow: the workflow to run if requests without execution do not count; None to run none.
        tls: as in a target's entry.
        headers: likewise.
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
        algorithm: its name.
        count_rejected: whether rejected requests count.
        count: smallest and largest possible N per window.
        window_s: smallest and largest possible window; for a bucket the documented one.
        burst: smallest and largest possible burst; None if there is none.
    """

    algorithm: AlgorithmName
    count_rejected: bool
    count: tuple[float, float]
    window_s: tuple[float, float]
    burst: tuple[int, int] | None = None

    @property
    def words(self) -> str:
        counting = ", counting rejected requests" if self.count_rejected else ""
        burst = "" if self.burst is None else f", burst {_between(*self.burst)}"
        if self.algorithm == CONCURRENCY:
            return f"{self.algorithm}: {_between(*self.count)} at the same time"
        return f"{self.algorithm}: {_between(*self.count)} per {_between(*self.window_s)} s{burst}{counting}"


class LimitFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A probe's findings about one limit.

    Attributes:
        limit: its name.
        documented: count and window in s.
        verdict: comparison of the enforced limit with the documented one.
        standing: the limiters that may be in force; exactly one if identified.
        scope: the requests that one limiter counts; None if unknown.
        statuses: number of rejections by status.
        retry_after: accuracy of the rejections' Retry-After, in words.
        headers: content of other rate-limit headers, in words.
        requests: number of requests sent.
        rejected: number of rejected requests.
        executed: number of requests that ran a workflow.
        jobs_of_rejected: rejected requests whose answer names a job.
        seconds: duration.
        why: the missing evidence, if the result is not certain.
    """

    limit: LimitName
    documented: tuple[int, float]
    verdict: Compliance
    standing: list[Standing]
    requests: int
    rejected: int = msgspec.field(name="refused")
    seconds: float
    scope: Scope | None = None
    statuses: dict[int, int] = {}
    retry_after: str = ""
    headers: str = ""
    executed: int = 0
    jobs_of_rejected: int = msgspec.field(name="jobs_of_refused", default=0)
    why: str = ""


def known(findings: Sequence[LimitFinding]) -> tuple[dict[LimitName, Limit], LimiterSpec | None]:
    """Return the findings that are certain enough to be assumed in future.

    Returns:
        The known limits, and their algorithm: None if it is unknown or differs between limits.
    """
    limits: dict[LimitName, Limit] = {}
    specs: set[LimiterSpec | None] = set()
    for found in findings:
        if found.verdict == "can't tell" or len(found.standing) != 1:
            specs.add(None)
            continue
        one = found.standing[0]
        count, window = found.documented
        same = found.verdict == "as documented"
        limits[found.limit] = Limit(count, window) if same else Limit(round(sum(one.count) / 2), _nearest(one.window_s))
        shown: Scope = "name" if found.scope == "name" else "key-and-name"
        separate = found.scope in {"name", "key-and-name"}
        burst = None if one.burst is None else round(sum(one.burst) / 2)
        specs.add(LimiterSpec(one.algorithm, burst, one.count_rejected, shown) if separate else None)
    return limits, specs.pop() if len(specs) == 1 else None


def _nearest(window_s: tuple[float, float]) -> float:
    """The roundest window between two: whole minutes, tens of seconds, seconds, or tenths."""
    least, most = window_s
    for step in (60.0, 10.0, 1.0, 0.1):
        found = round((least + most) / 2 / step) * step
        if found > 0 and least <= found <= most:
            return found
    return (least + most) / 2


class ProbeProgress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """A probe's progress, sent after each burst."""

    limit: LimitName
    requests: int
    passed: int
    seconds: float
    standing: list[str]


class Found(msgspec.Struct, frozen=True, kw_only=True, tag="found"):
    """The end of one limit's probe."""

    finding: LimitFinding


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The probe failed."""

    words: str
    remedy: str
    code: int


ProbeMessage = ProbeProgress | Found | Failed


def standing(model: Model, documented: Limit, *, held: bool) -> Standing:
    """Return a model with its parameters as shown; those of buckets per documented window."""
    least, most = model.window()
    low, high = model.count()
    if isinstance(model, Bucket):
        per = (documented.window / most, documented.window / least)
        return Standing(
            algorithm=_HOLDS if held else model.algorithm,
            count_rejected=model.count_rejected,
            count=(round(per[0], 2), round(per[1], 2)),
            window_s=(documented.window, documented.window),
            burst=(low, high),
        )
    return Standing(
        algorithm=model.algorithm,
        count_rejected=model.count_rejected,
        count=(low, high),
        window_s=(round(least, 3), round(most, 3)),
    )


def verdict(finding: ProbeFinding) -> Compliance:
    """Compare the enforced limit with the documented one; only accepted requests show that it is looser."""
    documented, models = finding.documented, finding.standing
    if finding.word != "named" or isinstance(models[0], Concurrency):
        return "can't tell"
    bucket, seen = isinstance(models[0], Bucket), standing(models[0], documented, held=finding.held)
    (low, high), (least, most) = seen.count, seen.window_s
    slowest, fastest, wanted = low / most, high / least, documented.rate
    slack = RATE_SAME * wanted
    if slowest > wanted + slack and (bucket or low > documented.count):
        return "looser" if finding.exceeded else "can't tell"
    if (bucket or low <= documented.count <= high) and slowest <= wanted + slack and fastest >= wanted - slack:
        return "as documented"
    same_window = least <= documented.window <= most
    if fastest < wanted or (not bucket and same_window and high < documented.count):
        return "stricter"
    return "looser" if slowest > wanted and finding.exceeded else "can't tell"


def scope(shared: dict[Who, bool | None]) -> Scope | None:
    """Return the scope of one limiter, given which clients share it; None if unknown."""
    found: dict[tuple[bool | None, bool | None], Scope] = {
        (False, False): "key-and-name",
        (False, True): "key",
        (True, False): "name",
        (True, True): "global",
    }
    return found.get((shared.get("other key"), shared.get("other limit")))


def _between(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


_ROUNDED_S: Final = 1.0
"""Maximum excess of a wait in whole seconds: RFC 9110, section 10.2.3, has no fractions."""
_LIMIT: Final = re.compile(r"^(?:x-)?rate-?limit-limit$")
_REMAINING: Final = re.compile(r"^(?:x-)?rate-?limit-remaining$")
_POLICY: Final = re.compile(r"""("[^"]*"|[\w*-]+)((?:\s*;\s*[a-z*][\w.*-]*(?:=(?:"[^"]*"|:[^:]*:|[^;,\s]*))?)*)""")
_PARAMETER: Final = re.compile(r""";\s*([a-z*][\w.*-]*)(?:=("[^"]*"|:[^:]*:|[^;,\s]*))?""")


@dataclass(frozen=True, slots=True)
class HeadedAnswer:
    """An answer with its headers.

    Attributes:
        sent: unix seconds of our clock.
        answered: likewise.
        rejected: whether a limit rejected it.
        headers: by name, in lower case.
    """

    sent: float
    answered: float
    rejected: bool
    headers: Mapping[str, str]


def retry_after(answers: Sequence[HeadedAnswer]) -> str:
    """Assess the rejections' ``Retry-After``, in words.

    The limiter had room again between the last rejected request and the next accepted one.
    """
    rejected = [each for each in answers if each.rejected]
    having = [each for each in rejected if "retry-after" in each.headers]
    if not having:
        return "none was sent" if rejected else ""
    judged = early = late = 0
    for place, each in enumerate(answers):
        if not each.rejected or (over := _over(each)) is None:
            continue
        following = [other for other in answers[place + 1 :] if other.sent > each.answered]
        passing = next((number for number, other in enumerate(following) if not other.rejected), None)
        if passing is None:
            continue
        judged += 1
        accepted = following[passing]
        # A rejected request that overlaps the accepted one may have arrived after it.
        before = (other.sent for other in following[:passing] if other.answered <= accepted.sent)
        early += over < max(before, default=each.sent) - 0.05
        late += over > accepted.answered + _ROUNDED_S + 0.05
    share = f"{len(having)} of {len(rejected)} rejections have one"
    if not judged:
        return f"{share}; no request was accepted after them, so it cannot be checked"
    if not early and not late:
        return f"{share}; none is contradicted"
    return f"{share}; of {judged} that can be checked, {early} were too short and {late} too long"


def _over(each: HeadedAnswer) -> float | None:
    wanted = parse_retry_after(each.headers.get("retry-after", ""))
    return wanted.timestamp() if isinstance(wanted, datetime) else None if wanted is None else each.answered + wanted


def stated_limits(answers: Sequence[HeadedAnswer]) -> str:
    """List the limits that headers state, and how often their remaining count was wrong, in words."""
    stated: Counter[str] = Counter()
    promised = broken = 0
    for place, each in enumerate(answers):
        stated.update(_stated(each.headers))
        left = _remaining(each.headers)
        if left is None or place + 1 == len(answers) or answers[place + 1].sent < each.answered:
            continue
        if left > 0:
            promised += 1
            broken += answers[place + 1].rejected
    if not stated and not promised:
        return "none" if answers else ""
    words = ", ".join(name for name, _ in stated.most_common(3)) or "no limit"
    if promised:
        words += f"; of {promised} that promised room, {broken} were followed by a rejection"
    return words


def _stated(headers: Mapping[str, str]) -> list[str]:
    found = [f"{name}: {value[:40]}" for name, value in headers.items() if _LIMIT.match(name)]
    for name, parameters in _items(headers.get("ratelimit-policy", "")):
        unit = parameters.get("qu", "").strip('"')
        words = f"RateLimit-Policy {name}: {parameters.get('q', '?')} {unit or 'requests'}"
        words += f" per {parameters['w']} s" if "w" in parameters else ""
        found.append(words + (", for a partition (pk)" if "pk" in parameters else ""))
    return found


def _remaining(headers: Mapping[str, str]) -> int | None:
    counts = [value for name, value in headers.items() if _REMAINING.match(name)]
    counts += [parameters["r"] for _, parameters in _items(headers.get("ratelimit", "")) if "r" in parameters]
    read = [int(count[:12]) for count in counts if count.isascii() and count.isdecimal()]
    return min(read) if read else None


def _items(text: str) -> list[tuple[str, dict[str, str]]]:
    """The items of a RateLimit field with their parameters (draft-ietf-httpapi-ratelimit-headers)."""
    return [(match[1].strip('"'), dict(_PARAMETER.findall(match[2]))) for match in _POLICY.finditer(text) if match[2]]
