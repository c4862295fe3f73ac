"""Whether a service became slower or refuses more between runs. Pure: nothing is read, sent or drawn here."""

__all__ = [
    "audit",
    "changes",
    "history",
    "history_file",
    "measurements",
    "paired",
    "results",
    "rule",
    "sentences",
    "suspects",
]
