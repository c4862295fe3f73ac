"""An entry of ``targets.toml``. It states which host may be loaded, with how many requests, and when."""

import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from loadtest.contract import LimitName
from loadtest.credentials import HEADER_SAFE
from loadtest.errors import InputError
from loadtest.limits import AlgorithmName, LimiterSpec, check_spec
from loadtest.record.run_directory import replacing
from loadtest.scenario import LimitSpec, LimitWord, Name, PositiveShare, Strict, checked, read_toml
from loadtest.targets.connection import Server, check_headers, server_of
from loadtest.units import Limit
from loadtest.words import suggestion

_FORM: Final = re.compile(r"^\s*(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)(?:\s+(\S+))?\s*$", re.ASCII)
_DAY: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of the day when a target may be loaded, written ``08:00-18:00`` with an optional zone (default UTC).

    ``start`` and ``end`` are minutes since midnight in ``zone``. The hours span midnight if start > end.
    """

    text: str
    start: int
    end: int
    zone: tzinfo

    def seconds_left(self, now: datetime) -> float | None:
        """Return the seconds until the hours end, or None outside the hours. ``now`` must have a zone."""
        local = now.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        wraps = self.start > self.end
        if not ((minute >= self.start or minute < self.end) if wraps else (self.start <= minute < self.end)):
            return None
        day = local.date() + timedelta(days=wraps and minute >= self.start)
        # The end is computed on the zone's clock, because a day may have 23 or 25 hours.
        end = datetime(day.year, day.month, day.day, tzinfo=self.zone) + timedelta(minutes=self.end)
        return (end.astimezone(UTC) - now.astimezone(UTC)).total_seconds()


def parse_hours(value: object) -> Hours:
    """Parse ``"08:00-18:00"``, ``"22:00-06:00 Europe/Berlin"`` or ``"08:00-18:00 +02:00"``.

    Raises:
        ValueError: if the text has another form or covers the whole day, or if its zone is unknown.
    """
    match = _FORM.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} are not hours: write '08:00-18:00', followed by a zone if it is not UTC")
    start, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (1, 3))
    if max(int(match[2]), int(match[4])) > 59 or start >= _DAY or end > _DAY:
        raise ValueError(f"{value!r} are not hours: a day lasts from 00:00 to 24:00")
    if start == end or (start, end) == (0, _DAY):
        raise ValueError(f"{value!r} is the whole day: omit allowed_hours to allow all hours")
    return Hours(match[0].strip(), start, end, _zone(match[5] or "UTC"))


def _zone(name: str) -> tzinfo:
    try:
        offset = datetime.strptime(name, "%z").tzinfo if name[0] in "+-" else None
        return offset or (UTC if name == "UTC" else ZoneInfo(name))
    # ZoneInfo reads a file with this name. For a wrong name, the exception depends on the file system.
    except (ValueError, KeyError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone: write a zone such as Europe/Berlin, or an offset such as +02:00"
        ) from None


def _base_url(url: str) -> str:
    server_of(url)
    return url.rstrip("/")


def _header_value(value: str) -> str:
    if HEADER_SAFE.fullmatch(value) is None:
        raise ValueError(f"{value!r} cannot be sent in a header")
    return value


class TargetEntry(Strict):
    """A table of ``targets.toml``."""

    url: Annotated[str, AfterValidator(_base_url)]
    environment: Literal["development", "test", "staging", "production"]
    """For ``production``, the user types the host name before a run, or gives ``--yes``."""
    owner: Annotated[str, Field(min_length=1)]
    """The person who agreed to the load and is informed about problems."""
    endpoint: Annotated[str, AfterValidator(_header_value)] | None = None
    """Value of ``x-wf-endpoint``, instead of WORKFLOW_ENDPOINT."""
    headers: Annotated[dict[str, str], AfterValidator(check_headers)] = Field(default_factory=dict)
    """Additional headers of every request. ``$NAME`` is read from the environment."""
    ca: Annotated[str, Field(min_length=1)] | None = None
    """PEM file of certificates to trust instead of the system's. Its path is relative to the entry's file."""
    client_certificate: Annotated[str, Field(min_length=1)] | None = None
    """PEM file of the client's certificate, followed by its chain."""
    client_key: Annotated[str, Field(min_length=1)] | None = None
    """PEM file of the certificate's private key, if it is not in ``client_certificate``."""
    limits: dict[LimitWord, LimitSpec] = Field(default_factory=dict)
    """Assumed limits that differ from the documentation."""
    algorithm: AlgorithmName = "fixed-window"
    """Assumed algorithm of the limits. ``loadtest probe --save`` writes the algorithm that it found."""
    burst: Annotated[int, Field(ge=1)] | None = None
    """Requests accepted at once, for algorithms with a burst."""
    count_rejected: bool = False
    """Whether rejected requests count against the limit, too."""
    phase: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Aligned windows start this many seconds after multiples of a limit's window."""
    round_down: bool = False
    """Whether a sliding counter rounds its estimate down, or a token bucket rounds the time down to whole seconds."""
    limit_scope: Literal["key-and-name", "name"] = "key-and-name"
    """Whether each key has its own limits (the default), or all keys share them."""
    max_share: PositiveShare = 0.1
    """A run may use at most this share of a limit in any window of the limit, summed over all keys."""
    max_operations: Annotated[int, Field(ge=1)] | None = None
    max_requests: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of requests of a run, including retries, polls, seeding and preflight."""
    price_per_execution: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of each accepted run or submit, in the currency of ``max_cost``."""
    max_cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    allowed_hours: Annotated[Hours, BeforeValidator(parse_hours)] | None = None
    expires: date | None = None
    """Last day (UTC) on which the entry is valid."""

    def problems(self) -> Mapping[str, object]:
        files = [name for name in ("ca", "client_certificate", "client_key") if getattr(self, name) is not None]
        return {
            "max_cost needs price_per_execution": self.max_cost is not None and self.price_per_execution is None,
            f"{''.join(files[:1])} needs https, but the url is {self.url}": files and self.server[0] != "https",
            "client_key needs client_certificate": self.client_key is not None and self.client_certificate is None,
        }

    @model_validator(mode="after")
    def _has_a_possible_limiter(self) -> Self:
        check_spec(self.limiter)
        return self

    @property
    def limiter(self) -> LimiterSpec:
        return LimiterSpec(
            self.algorithm, self.burst, self.count_rejected, self.limit_scope, self.phase, self.round_down
        )

    @property
    def server(self) -> Server:
        return server_of(self.url)

    @property
    def host(self) -> str:
        return self.server[1]

    @property
    def expiry(self) -> datetime | None:
        if self.expires is None:
            return None
        midnight = datetime(self.expires.year, self.expires.month, self.expires.day, tzinfo=UTC)
        return midnight + timedelta(days=1) if self.expires < date.max else datetime.max.replace(tzinfo=UTC)


def load_targets(path: Path) -> dict[str, TargetEntry]:
    """Read a file of targets strictly.

    Raises ``InputError`` if the file is invalid. The message names file, key and remedy of every error.
    """
    entries: dict[str, TargetEntry] = checked(dict[Name, TargetEntry], read_toml(path), path, "targets")
    return entries


def entry_named(path: Path, name: str) -> TargetEntry:
    """Return an entry of a file by its name. Raises ``InputError`` if the file is invalid, or has no such entry."""
    entries = load_targets(path)
    if name not in entries:
        raise InputError(f"{path}: there is no target {name!r}{suggestion(name, list(entries))}")
    return entries[name]


def save_limits(path: Path, name: str, limits: Mapping[LimitName, Limit], limiter: LimiterSpec | None) -> None:
    """Write assumed limits into an entry of a file. Comments, other keys and other limits stay.

    Without a limiter, the entry's algorithm stays, too.

    Raises:
        InputError: if the file is invalid, has no such entry or cannot be written. The file is then unchanged.
    """
    import tomlkit  # noqa: PLC0415 - only a probe writes

    entry_named(path, name)
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    entry = document[name]
    table = tomlkit.inline_table()
    table.update({**entry.get("limits", {}), **{str(each): str(limit) for each, limit in limits.items()}})
    entry["limits"] = table
    if limiter is not None:
        for field in fields(limiter):
            key, value = "limit_scope" if field.name == "scope" else field.name, getattr(limiter, field.name)
            if value == field.default and key != "algorithm":
                entry.pop(key, None)
            else:
                entry[key] = value
    text = tomlkit.dumps(document)
    checked(dict[Name, TargetEntry], tomllib.loads(text), path, "targets")
    try:
        with replacing(path.resolve()) as temporary:
            temporary.write_text(text, encoding="utf-8")
            shutil.copymode(path, temporary)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
