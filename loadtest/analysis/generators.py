"""What each generator process used and held up: its own account, with its CPU beside it."""

import msgspec

from loadtest.record.run_info import CpuSample, GeneratorInfo, RunInfo


class Generator(GeneratorInfo, kw_only=True, forbid_unknown_fields=True):
    """One generator process: its own account, and its CPU by the second.

    Attributes:
        cpu_mean: of the process; 100 is one core. None where none is known.
        cpu_peak: likewise, in its busiest second.
        machine_mean: of the machine that it is on; 100 is all of its cores.
        machine_peak: likewise, in its busiest second.
    """

    cpu_mean: float | None
    cpu_peak: float | None
    machine_mean: float | None
    machine_peak: float | None


def generators(info: RunInfo) -> list[Generator]:
    """Of each process that gave an account of itself, by its index; none where the run was killed."""
    found = []
    for own in sorted(info.generators, key=lambda one: one.worker):
        seconds: list[CpuSample] = [second for second in info.cpu if second.worker == own.worker]
        percents = [second.percent for second in seconds]
        machine = [second.machine for second in seconds if second.machine is not None]
        found.append(
            Generator(
                **msgspec.structs.asdict(own),
                cpu_mean=_mean(percents),
                cpu_peak=max(percents, default=None),
                machine_mean=_mean(machine),
                machine_peak=max(machine, default=None),
            )
        )
    return found


def _mean(percents: list[float]) -> float | None:
    return sum(percents) / len(percents) if percents else None
