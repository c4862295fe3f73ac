"""``loadtest serve``: starts the reference Workflow API. The command is in its room, which also runs alone."""

from loadtest.reference_api.command import command

__all__ = ["command"]
