"""``loadtest serve``: starts the reference Workflow API. Its room defines the command: it also runs alone."""

from loadtest.reference_api.command import command

__all__ = ["command"]
