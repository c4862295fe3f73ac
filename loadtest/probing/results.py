"""What a probe is asked, and what it found, as typed values that travel between processes as JSON."""

from typing import Final, Literal

import msgspec

from loadtest.contract import LimitName
from loadtest.limiters import AlgorithmName, Scope
from loadtest.probing.models import Bucket, Concurrency, Model
from loadtest.probing.probe import Finding, Who
from loadtest.record.run_info import TlsInfo
from loadtest.units import Limit

Verdict = Literal["as documented", "stricter", "looser", "can't tell"]
_RATE_SAME: Final = 0.02
"""Share by which a rate may differ and still be the documented one."""


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
        count_rejected: whether refused requests count.
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
        """The limiter and its numbers."""
        counting = ", counting refused requests" if self.count_rejected else ""
        burst = "" if self.burst is None else f", burst {_between(*self.burst)}"
        if self.algorithm == "concurrency":
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
        refused: of these, refused.
        executed: of these, those that ran a workflow.
        seconds: that it took.
        why: what is missing, where it is not sure.
    """

    limit: LimitName
    documented: tuple[int, float]
    verdict: Verdict
    standing: list[Standing]
    requests: int
    refused: int
    seconds: float
    scope: Scope | None = None
    statuses: dict[int, int] = {}
    retry_after: str = ""
    headers: str = ""
    executed: int = 0
    why: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
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


Message = Progress | Found | Failed


def standing(model: Model, documented: Limit, *, held: bool) -> Standing:
    """A model with its numbers as they are shown; of buckets per documented window."""
    least, most = model.window()
    low, high = model.count()
    if isinstance(model, Bucket):
        per = (documented.window / most, documented.window / least)
        return Standing(
            algorithm="leaky-queue" if held else model.algorithm,
            count_rejected=model.rejected,
            count=(round(per[0], 2), round(per[1], 2)),
            window_s=(documented.window, documented.window),
            burst=(low, high),
        )
    return Standing(
        algorithm=model.algorithm,
        count_rejected=model.rejected,
        count=(low, high),
        window_s=(round(least, 3), round(most, 3)),
    )


def verdict(finding: Finding) -> Verdict:
    """How what is enforced compares with the documentation."""
    documented = finding.documented
    if finding.word != "named":
        return "can't tell"
    model = finding.standing[0]
    if isinstance(model, Concurrency):
        return "can't tell"
    seen = standing(model, documented, held=finding.held)
    (low, high), (least, most) = seen.count, seen.window_s
    rates = (low / most, high / least)
    wanted, slack = documented.rate, _RATE_SAME * documented.rate
    same_count = isinstance(model, Bucket) or low <= documented.count <= high
    if same_count and rates[0] <= wanted + slack and rates[1] >= wanted - slack:
        return "as documented"
    if rates[1] < wanted or (
        not isinstance(model, Bucket) and least <= documented.window <= most and high < documented.count
    ):
        return "stricter"
    return "looser" if rates[0] > wanted else "can't tell"


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
