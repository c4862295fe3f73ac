"""Who made the load: the worker processes of a run, in words."""

from loadtest.record.run_info import RunInfo, WorkerInfo


def describe(worker: WorkerInfo) -> str:
    """One worker: where it ran, and when it came and went, if that was in the middle of the run."""
    parts = [f"worker {worker.worker} on {worker.host}"]
    if worker.joined_s > 0:
        parts.append(f"joined at {worker.joined_s:.1f} s")
    if worker.returned:
        parts.append(
            "was lost and came back" if worker.returned == 1 else f"was lost {worker.returned} times and came back"
        )
    if worker.left_s is not None:
        parts.append(f"{'was lost' if worker.end == 'lost' else 'left'} at {worker.left_s:.1f} s")
    if not worker.shared_clock:
        parts.append(f"clock {worker.offset_ms:+.1f} ± {worker.uncertainty_ms:.1f} ms from the master's, taken out")
    return ", ".join(parts)


def was_lost(worker: WorkerInfo) -> bool:
    """Whether it was believed lost at any time."""
    return worker.end == "lost" or worker.returned > 0


def workers(info: RunInfo) -> str:
    """All workers of a run; empty where there were none."""
    return "; ".join(describe(worker) for worker in info.crew)


def lost(info: RunInfo) -> list[str]:
    """Those that were lost, if only for a while, each in words."""
    return [describe(worker) for worker in info.crew if was_lost(worker)]
