"""``blocks.json``, a versioned file with the blocks of a paired comparison, in the order of their runs.

A block is one run of the whole scenario against one side, in an ordinary run directory.
"""

from pathlib import Path
from typing import Final, Literal

import msgspec

from loadtest.record import run_directory
from loadtest.record.run_info import RunInfo

Side = Literal["base", "head"]
SIDES: Final[tuple[Side, Side]] = ("base", "head")
FILE_NAME: Final = "blocks.json"
FOLDER: Final = "blocks"
SCHEMA_VERSION: Final = 1


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One block of a comparison."""

    directory: str
    """Path below the comparison's directory, such as ``blocks/03-head``."""
    side: Side
    pair: int
    """Number of the pair in its series, from 0."""
    series: int = 1
    """Number of the series, from 1. In older files, series 2 is a rerun."""


class BlockPlan(msgspec.Struct, kw_only=True):
    """All blocks of a comparison, in order. After each series, its blocks that never started are removed."""

    schema: int = SCHEMA_VERSION
    scenario: str
    seeds: list[int]
    """For each series, the seed of the order of its blocks."""
    silence_s: float
    """Minimum pause between a target's blocks. After it, no exceeded limit counts the earlier block's requests."""
    blocks: list[Block]

    def of(self, series: int) -> list[Block]:
        return [block for block in self.blocks if block.series == series]


def save(plan: BlockPlan, directory: Path) -> None:
    """Write ``blocks.json`` atomically."""
    run_directory.write_json(directory / FILE_NAME, plan)


def load(directory: Path) -> BlockPlan:
    """Read ``blocks.json``. Raise ``RecordError`` if it is missing, damaged, or of another schema version."""
    return run_directory.read_versioned(directory / FILE_NAME, BlockPlan, SCHEMA_VERSION)


def begun(info: RunInfo) -> bool:
    """Whether a block's epoch was set, or the block has ended."""
    return info.epoch_unix_ns is not None or info.samples is not None or info.end != "running"
