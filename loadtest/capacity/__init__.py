"""How much a service takes of a scenario, and what stops more: models of each constraint, confirmed by few runs."""

__all__ = ["models", "results", "search", "sentences"]
