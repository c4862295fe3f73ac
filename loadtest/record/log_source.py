"""The log that an imported run was made from, in ``run.json``."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

KeySource = Literal["header", "address", "none"]
StampPlace = Literal["start", "end"]
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class SourceInfo(msgspec.Struct, kw_only=True):
    """The log that an imported run was made from."""

    format: str
    """``combined``, ``json``, ``haproxy``, ``fields`` or ``har``; several are joined by ``, ``."""
    lines: _Count
    unknown_lines: _Count
    """Number of lines in another format."""
    other_lines: _Count = 0
    """Number of lines whose path is not the API's."""
    grain_s: Annotated[float, Meta(ge=0, le=1e9)]
    """Resolution of the time stamps."""
    stamp: StampPlace
    """Whether lines are stamped at a request's start or end."""
    service_times: bool
    """Whether lines have durations. Without them, each ``start`` is the stamp."""
    key: KeySource
    """The source of the keys' indices."""
    zone: bool = True
    """Whether stamps have a time zone; otherwise they count as UTC."""

    @property
    def coarse(self) -> bool:
        """Whether stamps are of whole seconds, which hide the order of requests."""
        return self.grain_s >= 1
