"""Whether a service has become slower or rejects more requests between runs. Pure: no input, output or load."""

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
