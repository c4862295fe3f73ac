"""Recorded arrivals. Each line of a file has the offset of an arrival in seconds and the number of its key."""

from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from loadtest.arrays import Floats, Ints
from loadtest.errors import InputError

_MOST: Final = 5_000_000
_REMEDY: Final = "The verb init with --from-run and --recorded writes such files."


class Recording:
    """Arrivals in order of time.

    Attributes:
        offsets_s: seconds since the start of the recording, not negative.
        keys: number of each arrival's key, from 0.
    """

    def __init__(self, offsets_s: Floats, keys: Ints) -> None:
        order = np.argsort(offsets_s, kind="stable")
        self.offsets_s = offsets_s[order]
        self.keys = keys[order]

    @cached_property
    def key_list(self) -> list[int]:
        """The keys as a list of plain integers. Reading them one by one is faster than from an array."""
        found: list[int] = self.keys.tolist()
        return found

    def most_within(self, seconds: float, *, key: int | None = None, keys: int = 1) -> int:
        """Return the maximum number of arrivals in any period of ``seconds``. ``key`` selects one of ``keys`` keys."""
        times = self.offsets_s if key is None else self.offsets_s[self.keys % keys == key]
        inside = np.searchsorted(times, times + seconds, side="left") - np.arange(len(times))
        return int(inside.max(initial=0))


def read_recording(path: Path, speed: float, duration_s: float) -> Recording:
    """Read a file of arrivals. They come ``speed`` times as fast as they were recorded.

    Raises:
        InputError: if the file cannot be read, a line is wrong, or an arrival comes after the stage's end.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"cannot read {path}: {why}. Every worker needs this file", f"Copy it there. {_REMEDY}"
        ) from error
    lines = [line.split() for line in text.splitlines()]
    offsets, keys = np.zeros(len(lines)), np.zeros(len(lines), np.int64)
    for place, parts in enumerate(lines):
        try:
            offsets[place], keys[place] = float(parts[0]), int(parts[1])
        except (ValueError, IndexError, OverflowError):
            offsets[place] = -1.0
        if len(parts) != 2 or not 0 <= offsets[place] < np.inf or keys[place] < 0:
            raise InputError(f"{path}:{place + 1}: the line is not an offset in seconds and a key's number", _REMEDY)
    if not 0 < len(lines) <= _MOST:
        raise InputError(f"{path} has {len(lines):,} arrivals; 1 to {_MOST:,} are possible", _REMEDY)
    recording = Recording(offsets / speed, keys)
    if (last := float(recording.offsets_s[-1])) >= duration_s:
        raise InputError(
            f"{path}: the last arrival is at {last:.6g} s, but its stage lasts {duration_s:g} s",
            f"Set the stage's duration above {last:.6g}s.",
        )
    return recording
