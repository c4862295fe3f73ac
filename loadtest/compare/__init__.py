"""Comparison of runs: whether a service became slower or rejects more requests. Pure: no input, output or load."""

__all__ = [
    "amounts",
    "audit",
    "changes",
    "history",
    "history_file",
    "measurements",
    "paired",
    "results",
    "rule",
    "shifts",
    "suspects",
    "verdict",
]
