"""What each generator process used and held up: its own account, with its CPU beside it."""

from dataclasses import dataclass
from typing import Any

import msgspec

from loadtest.record.run_info import CpuSample, GeneratorInfo, RunInfo


@dataclass(frozen=True, slots=True)
class Load:
    """Mean and highest of CPU percentages, each over a second; None where none is known."""

    mean: float | None
    peak: float | None


@dataclass(frozen=True, slots=True)
class Generator:
    """One generator process.

    Attributes:
        info: its own account.
        cpu: of the process; 100 is one core.
        machine: of the machine that it is on; 100 is all of its cores.
    """

    info: GeneratorInfo
    cpu: Load
    machine: Load

    def as_json(self) -> dict[str, Any]:
        """As in ``metrics.json``."""
        return {
            **msgspec.to_builtins(self.info),
            "cpu_mean": self.cpu.mean,
            "cpu_peak": self.cpu.peak,
            "machine_mean": self.machine.mean,
            "machine_peak": self.machine.peak,
        }


def generators(info: RunInfo) -> list[Generator]:
    """Of each process that gave an account of itself, by its index; of older records there is none."""
    found = []
    for own in sorted(info.generators, key=lambda one: one.worker):
        seconds: list[CpuSample] = [second for second in info.cpu if second.worker == own.worker]
        found.append(
            Generator(
                own,
                _load([second.percent for second in seconds]),
                _load([second.machine for second in seconds if second.machine is not None]),
            )
        )
    return found


def _load(percents: list[float]) -> Load:
    if not percents:
        return Load(None, None)
    return Load(sum(percents) / len(percents), max(percents))
