"""An entry of ``targets.toml``: a host that may be loaded, and the leash of whoever loads it. Checked strictly."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from loadtest.errors import InputError
from loadtest.limits import LimitName
from loadtest.scenario.fields import LimitSpec, Name, Share, Strict
from loadtest.targets.address import Place, place
from loadtest.targets.headers import check_headers
from loadtest.targets.hours import Hours, parse_hours


def _base_url(url: str) -> str:
    try:
        place(url)
    except InputError as error:
        raise ValueError(f"{error.message}. {error.remedy}") from None
    return url.rstrip("/")


def _header_value(value: str) -> str:
    if re.fullmatch(r"[\x21-\x7e]+", value) is None:
        raise ValueError(f"{value!r} cannot be sent in a header")
    return value


def _above_zero(share: float) -> float:
    if share <= 0:
        raise ValueError("max_share must be above zero")
    return share


class TargetEntry(Strict):
    """One table of ``targets.toml``."""

    url: Annotated[str, AfterValidator(_base_url)]
    environment: Literal["development", "test", "staging", "production"]
    """``production`` asks for the host name before anything is sent."""
    owner: Annotated[str, Field(min_length=1)]
    """Who has agreed to the load, and is asked when it hurts."""
    endpoint: Annotated[str, AfterValidator(_header_value)] | None = None
    """Value of ``x-wf-endpoint``, in place of WORKFLOW_ENDPOINT."""
    headers: Annotated[dict[str, str], AfterValidator(check_headers)] = Field(default_factory=dict)
    """What every request carries beyond the documented headers; ``$NAME`` is taken from the environment."""
    ca: Annotated[str, Field(min_length=1)] | None = None
    """File of certificates (PEM) that are trusted in place of the system's. As all files: from where the entry is."""
    client_certificate: Annotated[str, Field(min_length=1)] | None = None
    """File (PEM) with what the client proves itself with, its chain behind it."""
    client_key: Annotated[str, Field(min_length=1)] | None = None
    """File (PEM) with its private key, if that is another one."""
    limits: dict[LimitName, LimitSpec] = Field(default_factory=dict)
    """Believed limits, where they are not the documented ones."""
    max_share: Annotated[Share, AfterValidator(_above_zero)] = 0.1
    """Of each limit, over all keys: most requests in any window of it."""
    max_operations: Annotated[int, Field(ge=1)] | None = None
    max_requests: Annotated[int, Field(ge=1)] | None = None
    """Of one run: retries, polls, seeding and preflight included."""
    price_per_execution: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Of each run or submit that is not refused, in whatever currency ``max_cost`` is in."""
    max_cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    allowed_hours: Annotated[Hours, BeforeValidator(parse_hours)] | None = None
    expires: date | None = None
    """Last day (UTC) on which the entry holds."""

    @model_validator(mode="after")
    def _cost_can_be_known(self) -> Self:
        if self.max_cost is not None and self.price_per_execution is None:
            raise ValueError("max_cost needs price_per_execution")
        return self

    @model_validator(mode="after")
    def _tls_is_spoken(self) -> Self:
        said = [name for name in ("ca", "client_certificate", "client_key") if getattr(self, name) is not None]
        if said and self.place[0] != "https":
            raise ValueError(f"{said[0]} is for https, and the url is {self.url}")
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("client_key needs client_certificate")
        return self

    @property
    def place(self) -> Place:
        """The server it is about."""
        return place(self.url)

    @property
    def host(self) -> str:
        """Its host name."""
        return self.place[1]

    @property
    def expiry(self) -> datetime | None:
        """The moment from which the entry no longer holds."""
        if self.expires is None:
            return None
        midnight = datetime(self.expires.year, self.expires.month, self.expires.day, tzinfo=UTC)
        return midnight + timedelta(days=1) if self.expires < date.max else datetime.max.replace(tzinfo=UTC)


TargetsFile = dict[Name, TargetEntry]
"""The whole file: entries by name."""
