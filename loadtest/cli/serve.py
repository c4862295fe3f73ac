"""``loadtest serve``: the reference Workflow API. The command belongs to the target, which also runs alone."""

from loadtest.reference_api.command import command

__all__ = ["command"]
