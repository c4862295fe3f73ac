"""The source of an imported run, as ``run.json`` describes it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

KeySource = Literal["header", "address", "none"]
StampPlace = Literal["start", "end"]
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class SourceInfo(msgspec.Struct, kw_only=True):
    """The source log of an imported run."""

    format: str
    """``combined``, ``json``, ``haproxy``, ``fields`` or ``har``. Several formats are joined by ``, ``."""
    lines: _Count
    unknown_lines: _Count
    """Number of lines in an unknown format."""
    other_lines: _Count = 0
    """Number of lines whose path does not belong to the API."""
    grain_s: Annotated[float, Meta(ge=0, le=1e9)]
    """Resolution of the time stamps."""
    stamp: StampPlace
    """Whether a line's stamp is the start or the end of its request."""
    service_times: bool
    """Whether lines have durations. Without them, each ``start`` is the stamp."""
    key: KeySource
    """The part of a line that determines the key's index."""
    zone: bool = True
    """Whether stamps have a time zone. Otherwise they count as UTC."""

    @property
    def coarse(self) -> bool:
        """Whether stamps are whole seconds or coarser. They then hide the order of requests."""
        return self.grain_s >= 1
