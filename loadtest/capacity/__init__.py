"""The capacity of a service for a scenario, and its bottleneck: a model of each constraint, confirmed by a few runs."""

__all__ = ["models", "results", "search", "sentences"]
