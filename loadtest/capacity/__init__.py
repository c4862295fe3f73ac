"""Search for the capacity of a service and its bottleneck. Models guess the capacity, and a few runs measure it."""

__all__ = ["results", "search", "sentences"]
