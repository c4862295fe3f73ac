"""The reference Workflow API, in a process of its own: what a load test runs against when no service is at hand.

It keeps the documented contract (``ARCHITECTURE.md``). Where the documentation is silent it makes assumptions, each
labelled "Assumption" where it is implemented; a real service may differ, so the harness measures and never assumes.

What can be imported from here is for modules with workflows of one's own: see ``docs/workflows.md``.
"""

from loadtest.reference_api.authoring import WorkflowFailedError, cancelled, workflow

__all__ = ["WorkflowFailedError", "cancelled", "workflow"]
