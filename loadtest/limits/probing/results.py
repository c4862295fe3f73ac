"""What a probe is asked, and what it found, as typed values that travel between processes as JSON."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from loadtest.contract import LimitName
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
    """What to probe. Keys and endpoint come from the environment.

    Attributes:
        url: the base URL.
        listed: whether an entry allows a host that is not loopback.
        documented: the limits to probe, as the documentation gives them: count and window in s.
        rate: requests/s that may be sent.
        requests: of all limits; None for four times each documented count.
        workflow: to run where requests that execute nothing draw on no limit; None to run none.
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
        count: the least and the greatest N per window that stand; None for a limit on concurrency without a window.
        window_s: the least and the greatest window that stand; of a bucket the documented one.
        burst: the least and the greatest burst that stand; None where there is none.
    """

    algorithm: AlgorithmName
    count_rejected: bool
    count: tuple[float, float]
    window_s: tuple[float, float]
    burst: tuple[int, int] | None = None

    @property
    def words(self) -> str:
        counting = ", counting refused requests" if self.count_rejected else ""
        burst = "" if self.burst is None else f", burst {_between(*self.burst)}"
        if self.algorithm == CONCURRENCY:
            return f"{self.algorithm}: {_between(*self.count)} at the same time"
        return f"{self.algorithm}: {_between(*self.count)} per {_between(*self.window_s)} s{burst}{counting}"


class LimitFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one limit.

    Attributes:
        limit: its name.
        documented: count and window in s.
        verdict: how what is enforced compares with the documentation.
        standing: the limiters that may be in force: one, where it is known which.
        scope: what one limiter counts; None if that is not known.
        statuses: of refusals, how often each was seen.
        retry_after: what the refusals' Retry-After was worth, in words.
        headers: what other headers of rates say, in words.
        requests: how many were sent.
        rejected: of these, rejected.
        executed: of these, those that ran a workflow.
        jobs_of_rejected: rejected ones whose answer names a job.
        seconds: that it took.
        why: what is missing, where it is not sure.
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
    """What is known well enough to be assumed from now on.

    Returns:
        The limits that are known, and how they are counted: None where that is not the same for all of them, or not
        known of all.
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
    """The roundest window between two: whole minutes, seconds, or tenths."""
    least, most = window_s
    for step in (60.0, 10.0, 1.0, 0.1):
        found = round((least + most) / 2 / step) * step
        if found > 0 and least <= found <= most:
            return found
    return (least + most) / 2


class ProbeProgress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """Where a probe is: sent after each volley."""

    limit: LimitName
    requests: int
    passed: int
    seconds: float
    standing: list[str]


class Found(msgspec.Struct, frozen=True, kw_only=True, tag="found"):
    """One limit is done."""

    finding: LimitFinding


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The probe cannot go on."""

    words: str
    remedy: str
    code: int


ProbeMessage = ProbeProgress | Found | Failed


def standing(model: Model, documented: Limit, *, held: bool) -> Standing:
    """A model with its numbers as they are shown; of buckets per documented window."""
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
    """How what is enforced compares with the documentation."""
    documented, models = finding.documented, finding.standing
    if finding.word != "named" or isinstance(models[0], Concurrency):
        return "can't tell"
    bucket, seen = isinstance(models[0], Bucket), standing(models[0], documented, held=finding.held)
    (low, high), (least, most) = seen.count, seen.window_s
    slowest, fastest, wanted = low / most, high / least, documented.rate
    slack = RATE_SAME * wanted
    if slowest > wanted + slack and (bucket or low > documented.count):
        return "looser"
    if (bucket or low <= documented.count <= high) and slowest <= wanted + slack and fastest >= wanted - slack:
        return "as documented"
    same_window = least <= documented.window <= most
    if fastest < wanted or (not bucket and same_window and high < documented.count):
        return "stricter"
    return "looser" if slowest > wanted else "can't tell"


def scope(shared: dict[Who, bool | None]) -> Scope | None:
    """What one limiter counts, from who else drew on it; None if that is not known."""
    found: dict[tuple[bool | None, bool | None], Scope] = {
        (False, False): "key-and-name",
        (False, True): "key",
        (True, False): "name",
        (True, True): "global",
    }
    return found.get((shared.get("other key"), shared.get("other limit")))


def _between(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
