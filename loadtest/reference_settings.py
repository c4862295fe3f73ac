"""Settings of the reference API: options of ``loadtest serve``, and keys of ``[target]`` in a scenario.

Some settings choose behaviour that the API's documentation does not specify (see ``docs/contract.md``).
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

from loadtest.contract import ALL, DOCUMENTED, LimitName
from loadtest.credentials import LOCAL_KEY
from loadtest.errors import WrongValueError
from loadtest.faults import Fault, check_keys, to_text
from loadtest.limits import SHARED_SCOPES, AlgorithmName, LimiterSpec, Scope, check_spec
from loadtest.units import Limit

RateHeaderForm = Literal["none", "x-ratelimit", "ietf"]
Draws = Literal["all", "valid"]
PendingTime = Literal["elapsed", "zero", "omitted"]
UnknownParameters = Literal["reject", "ignore"]

MAX_BODY: Final = 1024 * 1024
"""Upper bound of the setting ``max_body``, in bytes. The server does not read a longer body to its end."""

_WEEK: Final = 7 * 24 * 3600
RECODE_FORM: Final = r"^([45]\d\d(/[!-~]+)?|/[!-~]+)$"


class About(NamedTuple):
    """A setting's description, bounds and option.

    Attributes:
        seconds: whether the setting is a time in seconds. In files, it has a unit.
        option: the name of the option, if it differs from the setting's name.
        form: the form of a repeatable option's values. Empty if the option cannot be repeated.
    """

    meaning: str
    least: float | None = None
    most: float | None = None
    seconds: bool = False
    option: str = ""
    form: str = ""


class Setting(NamedTuple):
    """One setting: its name in files and code, its type, its default and its description."""

    name: str
    type: Any
    default: Any
    about: About

    @property
    def option(self) -> str:
        return "--" + (self.about.option or self.name).replace("_", "-")


def settings_of(config: "type[ReferenceSettings]") -> list[Setting]:
    """Return the settings that a config class declares."""
    hints = get_type_hints(config, include_extras=True)
    found = []
    for each in fields(config):
        kind, *about = get_args(hints[each.name]) if get_origin(hints[each.name]) is Annotated else (None,)
        if about:
            default = each.default if each.default_factory is MISSING else each.default_factory()
            found.append(Setting(each.name, kind, default, about[0]))
    return found


class Recode(NamedTuple):
    """A different status and ``code`` for an error. None keeps the default."""

    status: int | None
    code: str | None

    @classmethod
    def parse(cls, text: str) -> "Recode":
        """Parse ``"429"``, ``"/too_many_jobs"`` or ``"429/too_many_jobs"``. Raise ``ValueError`` for other forms."""
        if re.fullmatch(RECODE_FORM, text) is None:
            raise ValueError(f"{text!r} is not a status or code: write STATUS, /CODE or STATUS/CODE")
        status, _, code = text.partition("/")
        return cls(int(status) if status else None, code or None)

    def __str__(self) -> str:
        return f"{self.status or ''}" + (f"/{self.code}" if self.code else "")


BUILT_IN_WORKFLOWS: Final = ("say-hello", "echo", "fail", "sleep", "cpu")
"""Workflows that every reference API has. The setting ``workflows`` adds more."""


@dataclass(frozen=True, kw_only=True)
class ReferenceSettings:
    """The behaviour of a reference API: options of ``loadtest serve`` and keys of a scenario's ``[target]``."""

    enforce: Annotated[
        Mapping[str, Limit],
        About(
            "Limits that replace documented limits (sync_run=5/1s), or a limit on all requests (all=1000/60s).",
            option="limit",
            form="NAME=N/W",
        ),
    ] = field(default_factory=dict)
    algorithm: Annotated[AlgorithmName, About("Rate-limiting algorithm.")] = "fixed-window"
    burst: Annotated[int | None, About("Requests accepted at once, for algorithms with a burst.", 1, 1_000_000)] = None
    count_rejected: Annotated[bool, About("Count rejected requests against the limit.")] = False
    phase: Annotated[
        float, About("Aligned windows start this long after multiples of their length.", 0, _WEEK, seconds=True)
    ] = 0.0
    round_down: Annotated[
        bool,
        About(
            "Round the count down to whole requests (sliding counter), or refill only at whole seconds (token bucket)."
        ),
    ] = False
    limit_scope: Annotated[Scope, About('Scope of limits. Scopes key and global need a limit "all".')] = "key-and-name"
    draws: Annotated[Draws, About("Requests that count against a limit: all, or only valid requests.")] = "all"
    retry_after: Annotated[Literal["none", "seconds", "date"], About("Retry-After header of a 429.")] = "none"
    retry_after_factor: Annotated[float, About("Retry-After is this factor × the true wait.", 0, 1000)] = 1.0
    rate_headers: Annotated[RateHeaderForm, About("Headers that report a limit's state.")] = "none"
    workers: Annotated[int, About("Maximum number of jobs that execute at the same time.", 1, 10_000)] = 64
    threads: Annotated[int, About("Maximum number of threads for plain (not async) functions.", 1, 1000)] = 64
    queue: Annotated[int, About("Maximum number of queued jobs.", 0, 1_000_000)] = 10_000
    retention: Annotated[float, About("Time that a finished job is kept.", 0, _WEEK, seconds=True)] = 600.0
    run_timeout: Annotated[float, About("Maximum duration of a synchronous run.", 0, _WEEK, seconds=True)] = 60.0
    workflows: Annotated[tuple[str, ...], About("Module or .py file with more workflow functions.", form="MODULE")] = ()
    answers: Annotated[
        Mapping[str, Recode],
        About(
            "Replacement status and code of an error, such as queue_full=429.",
            option="answer",
            form="CODE=STATUS[/CODE]",
        ),
    ] = field(default_factory=dict)
    pending_execution_time: Annotated[PendingTime, About("executionTime of a pending job.")] = "elapsed"
    unknown_parameters: Annotated[UnknownParameters, About("Treatment of unknown parameters and fields.")] = "reject"
    max_body: Annotated[int, About("Maximum size of a request body, in bytes.", 1, MAX_BODY)] = 64 * 1024
    fault: Annotated[
        tuple[Fault, ...],
        About("Fault to inject, such as latency,ms=200,start=10s,probability=10%.", form="KIND[,KEY=VALUE]..."),
    ] = ()

    def __post_init__(self) -> None:
        """Check the settings. A ``WrongValueError`` names the setting."""
        check_spec(self.limiter)
        shared = self.limit_scope in SHARED_SCOPES
        if shared and ALL not in self.enforce:
            problem, remedy = "all requests share a limit that is not given", 'Give the limit "all", such as 1000/60s.'
            raise WrongValueError(problem, remedy, key="limit_scope", value=self.limit_scope)
        if ALL in self.enforce and not shared:
            problem = f"scope {self.limit_scope} does not count all requests together"
            remedy = "Choose the scope key or global, or give limits by name."
            raise WrongValueError(problem, remedy, key="enforce", value=f"all={self.enforce[ALL]}")
        if self.retry_after_factor != 1 and self.retry_after == "none":
            problem, remedy = "has no effect without retry_after", "Give retry_after (seconds or date) as well."
            raise WrongValueError(problem, remedy, key="retry_after_factor", value=f"{self.retry_after_factor:g}")
        if self.run_timeout <= 0:
            raise WrongValueError("must be above zero", "Give it a time such as 60s.", key="run_timeout")
        if odd := [name for name in self.workflows if not name.isprintable()]:
            problem, remedy = (
                f"{odd[0]!r} is not a module or a file",
                "Give a dotted module, or the path of a .py file.",
            )
            raise WrongValueError(problem, remedy, key="workflows")

    @property
    def limiter(self) -> LimiterSpec:
        return LimiterSpec(
            self.algorithm, self.burst, self.count_rejected, self.limit_scope, self.phase, self.round_down
        )

    @property
    def limits(self) -> dict[LimitName, Limit]:
        """The limit of each limit name. In a shared scope, these limits only define rates ``of limit``."""
        return {name: self.enforce.get(name, documented) for name, documented in DOCUMENTED.items()}


@dataclass(frozen=True, kw_only=True)
class ServerConfig(ReferenceSettings):
    """One reference server: its behaviour and the parameters of its process.

    If ``endpoint`` is None, any ``x-wf-endpoint`` that is not empty is valid.
    """

    host: Annotated[str, About("Loopback address to listen on.")] = "127.0.0.1"
    port: Annotated[int, About("TCP port. 0 selects a free port.", 0, 65535)] = 8000
    fault_seed: Annotated[int, About("Seed that selects the requests that a fault affects.", 0)] = 1
    fault_clock: Annotated[
        Literal["ready", "epoch"],
        About("Event that starts the clock of faults: server ready, or POST /epoch to the control endpoint."),
    ] = "ready"
    control_port: Annotated[
        int | None, About("Port of the endpoint that controls faults. 0 selects a free port.", 0, 65535)
    ] = None
    keys: tuple[str, ...] = field(default=(LOCAL_KEY,), repr=False)
    endpoint: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit_scope in SHARED_SCOPES and (named := [name for name in self.enforce if name != ALL]):
            problem = f"no request counts against it: with scope {self.limit_scope} all requests share one limit"
            remedy = "Leave it out, or choose the scope key-and-name or name."
            raise WrongValueError(problem, remedy, key="enforce", value=f"{named[0]}={self.enforce[named[0]]}")
        for fault in self.fault:
            try:
                check_keys(fault, len(self.keys))
            except WrongValueError as error:
                raise WrongValueError(error.message, error.remedy, key="fault", value=to_text(fault)) from None
        if self.fault_clock == "epoch" and self.control_port is None:
            problem = "the epoch is sent to the control endpoint, but this server has none"
            raise WrongValueError(problem, "Give control_port 0 as well.", key="fault_clock", value=self.fault_clock)


def to_options(settings: ReferenceSettings) -> dict[str, Any]:
    """Return the settings that differ from their defaults as options of ``loadtest serve``, for ``option_words``."""
    options = {}
    for setting in settings_of(ReferenceSettings):
        value = getattr(settings, setting.name)
        if value == setting.default:
            continue
        if setting.name == "enforce" and settings.limit_scope in SHARED_SCOPES:
            # The other limits only define rates "of limit": no request counts against them.
            value = {ALL: value[ALL]}
        if isinstance(value, Mapping):
            value = tuple(f"{key}={each}" for key, each in value.items())
        elif setting.name == "fault":
            value = tuple(map(to_text, value))
        options[setting.about.option or setting.name] = value
    return options
