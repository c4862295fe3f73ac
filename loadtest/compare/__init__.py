"""Comparison of runs: did a service become slower, or does it reject more requests? Nothing here makes load."""

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
    "verdict",
]
