"""A probe's order and findings. Processes exchange them as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

import msgspec

from loadtest.contract import LimitName
from loadtest.limits import ALGORITHMS, AlgorithmName, LimiterSpec, Scope
from loadtest.limits.probing.evidence import SAME, WINDOWS, Facts, Who
from loadtest.limits.probing.hypotheses import COMMON_WINDOWS, Hypotheses
from loadtest.record.run_info import TlsInfo
from loadtest.units import Limit

_NARROW: Final = 0.1
"""Bounds are narrow if their relative width is at most this, or if they are at most two requests apart."""
_HOLDS: Final = next(each.name for each in ALGORITHMS.values() if each.holds)
PROBE_FILE: Final = "probe.json"
PROBE_SCHEMA: Final = 1
Compliance = Literal["as documented", "stricter", "looser", "other", "can't tell"]


class ProbeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A probe to run. Keys and endpoint come from the environment.

    Attributes:
        listed: whether an entry allows a host other than loopback.
        documented: documented count and window in s of each limit to probe.
        rate: maximum requests/s.
        requests: maximum number of requests to all limits. None stands for 5.5 times each documented count.
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
        window_s: smallest and largest possible window. A bucket has the documented window.
        burst: smallest and largest possible burst; None if there is none.
        phase_s: smallest and largest time from a multiple of the window on our clock to the start of a window. None if
            clock error explains it, or if windows are not aligned.
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
        burst = "" if self.burst is None else f", burst {_between(*self.burst)}"
        phase = (
            "" if self.phase_s is None else f", {self.phase_s[0]:.3g} to {self.phase_s[1]:.3g} s after its multiples"
        )
        return f"{_between(*self.count)} per {_between(*self.window_s)} s{phase}{burst}"

    @property
    def words(self) -> str:
        return f"{self.name}: {self.numbers}"


class ModelFit(msgspec.Struct, frozen=True, kw_only=True):
    """The agreement of a limiter with the answers.

    Attributes:
        numbers: the limiter's likely numbers, as text.
        log_ratio: natural log of the limiter's likelihood ÷ the best limiter's likelihood.
        ruled_out: the observation that excluded it, as text; empty if it may be in force.
    """

    limiter: str
    numbers: str
    log_ratio: float
    ruled_out: str = ""


class ProbeBurst(msgspec.Struct, frozen=True, kw_only=True):
    """A burst of a probe: seconds after the start, and numbers of sent and of accepted requests."""

    at_s: float
    sent: int
    passed: int


class StatedNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of the enforced limit. All limiters that may be in force share them, within narrow bounds.

    Attributes:
        count: N per ``window_s``. For buckets, this is the refill in that time.
        window_s: the window. For buckets, this is the documented window.
        burst: requests that a bucket accepts at once; None for windows.
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
        verdict: comparison of the enforced limit with the documented one.
        standing: the limiters that may be in force. If ``why`` is empty, all have one algorithm (short windows may
            differ in how they begin).
        stated: the enforced numbers; None if they differ among the limiters that may be in force.
        seen: observations that no limiter explains, as text.
        fits: the fits of all limiters, the best first.
        scope: the scope of a limiter, as far as it is proved. None if it is unknown whether keys share a quota.
        shared: whether the other key and the other limit share the quota; None if unclear.
        held: whether accepted requests were delayed as in a queue.
        statuses: number of rejections by status.
        retry_after: accuracy of the rejections' Retry-After, as text.
        waits: whether rejections state when to retry. False if no rejection had a Retry-After.
        headers: content of other rate-limit headers, as text.
        executed: number of requests that ran a workflow.
        jobs_of_rejected: rejected requests whose answer names a job.
        seconds: duration of the probe.
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
        """The limit in the form of an entry of targets.toml."""
        if self.stated is None:
            return None
        count, window = self.documented
        if self.verdict == "as documented":
            return Limit(count, window)
        return Limit(max(1, round(sum(self.stated.count) / 2)), self.stated.window_s)

    @property
    def spec(self) -> LimiterSpec | None:
        """The identified limiter; None if several may be in force."""
        if not self.standing or self.why:
            return None
        one, round_down = self.standing[0], all(each.round_down for each in self.standing)
        burst = None if one.burst is None else round(sum(one.burst) / 2)
        scope, phase = self.scope or "key-and-name", 0.0 if one.phase_s is None else sum(one.phase_s) / 2
        return LimiterSpec(one.algorithm, burst, one.count_rejected, scope, phase, round_down)


def scope(shared: Mapping[Who, bool | None]) -> Scope | None:
    """Return the proved scope. Two keys that share a quota prove only that the quota is not counted per key."""
    keys = shared.get("other key")
    return None if keys is None else "name" if keys else "key-and-name"


def known(
    findings: Sequence[LimitFinding], *, round_down: bool = False
) -> tuple[dict[LimitName, Limit], LimiterSpec | None]:
    """Return the limits that agree with the documentation. Other clients may use a part of any other limit.

    Args:
        findings: of all probed limits.
        round_down: the value to keep if it differs among the limiters that may be in force.

    Returns:
        The known limits, and their algorithm. It is None if it is unknown or differs between limits.
    """
    agreeing = [each for each in findings if each.verdict == "as documented"]
    limits = {each.limit: found for each in agreeing if (found := each.limit_found) is not None}
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
    """Whether the probe started the target itself, so that it no longer runs."""


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
    """The end of one limit's probe."""

    finding: LimitFinding


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The probe failed."""

    words: str
    remedy: str
    code: int


ProbeMessage = ProbeProgress | Found | Failed


def standing(model: Hypotheses, documented: Limit, *, held: bool) -> Standing:
    """Return a model with the parameters that are shown. Those of a bucket are per documented window."""
    (low, high), (least, most) = model.range(0), model.range(1)
    if model.fills_each_second:
        return Standing(
            algorithm="fixed-window",
            count_rejected=False,
            count=(min(_rounded(1 / most), low), high),
            window_s=(1.0, 1.0),
        )
    if model.bucket:
        return Standing(
            algorithm=_HOLDS if held else model.algorithm,
            count_rejected=model.count_rejected,
            count=(_rounded(documented.window / most), _rounded(documented.window / least)),
            window_s=(documented.window, documented.window),
            burst=(round(low), round(high)),
            round_down=model.round_down,
        )
    if most > WINDOWS * documented.window:  # this window represents all that are longer than the probe
        most = COMMON_WINDOWS[-1]
    return Standing(
        algorithm=model.algorithm,
        count_rejected=model.count_rejected,
        count=(low, high),
        window_s=(least, most),
        phase_s=model.phase,
        round_down=model.round_down,
    )


def _rounded(count: float) -> float:
    return float(f"{count:.3g}") if count < 1000 else round(count)


def stated(models: Sequence[Standing]) -> StatedNumbers | None:
    """Return the numbers of all limiters that may be in force; None if these differ."""
    if not models or len({each.burst is None for each in models}) > 1:
        return None
    low, high = min(each.count[0] for each in models), max(each.count[1] for each in models)
    least, most = min(each.window_s[0] for each in models), max(each.window_s[1] for each in models)
    bursts = [each for one in models for each in one.burst or ()]
    if most > least or not (_narrow(low, high) and _narrow(min(bursts, default=0), max(bursts, default=0))):
        return None
    return StatedNumbers(count=(low, high), window_s=least, burst=(min(bursts), max(bursts)) if bursts else None)


def _narrow(low: float, high: float) -> bool:
    return high - low <= max(2, _NARROW * high)


def verdict(documented: Limit, numbers: StatedNumbers | None, *, exceeded: bool) -> Compliance:
    """Compare the enforced limit with the documented one.

    Args:
        documented: the documented limit.
        numbers: the enforced numbers, if they are known.
        exceeded: whether more was accepted than the documented limit can accept. Only this proves a looser limit.
            Rejections exclude no larger limit, because another client may use the rest.
    """
    if exceeded:
        return "looser"
    if numbers is None:
        return "can't tell"
    slowest, fastest = numbers.rate
    if numbers.burst is None:
        same = numbers.window_s == documented.window and numbers.count[0] <= documented.count <= numbers.count[1]
        at_once = numbers.count[0]
    else:
        at_once = numbers.burst[0]
        same = slowest <= documented.rate * (1 + SAME) and fastest >= documented.rate * (1 - SAME)
        same = same and at_once <= documented.count
    if same:
        return "as documented"
    if at_once <= documented.count and slowest <= documented.rate * (1 + SAME):
        return "stricter"
    # More than twice the documented rate would have exceeded the documented limit in one window of any phase.
    return "other" if slowest <= 2 * documented.rate else "can't tell"


def _between(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
