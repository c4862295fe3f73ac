"""Samples that a live run counts."""

from typing import Any

from loadtest.record.samples import Sample

SECOND = 1_000_000_000


def request(at_s: float, status: int | None = 200, **more: Any) -> Sample:
    outcome = more.pop("outcome", {200: "ok", 429: "throttled"}.get(status or 0, "failed"))
    return Sample(
        row="request", traffic="t", operation="sync_run", outcome=outcome, status=status,
        **{"kind": "run", "stage": "only", "start": int(at_s * SECOND), **more},
    )  # fmt: skip


def operation(at_s: float, ms: float, outcome: str = "ok", **more: Any) -> Sample:
    at = int(at_s * SECOND)
    return Sample(
        row="operation", traffic="t", operation="sync_run", stage="only", outcome=outcome,  # type: ignore[arg-type]
        intended_start=at, **{"start": at, "end": at + int(ms * 1e6), **more},
    )  # fmt: skip
