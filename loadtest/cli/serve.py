"""``loadtest serve``: starts the reference Workflow API, whose room defines the command because it also runs alone."""

from loadtest.reference_api.command import command

__all__ = ["command"]
