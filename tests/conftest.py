"""Settings of all tests."""

import gc
import os

from hypothesis import settings

# Fixtures for every folder; a folder's own conftest.py holds what only it needs.
pytest_plugins = [
    "plugins.processes",
    "plugins.launched",
    "plugins.workers",
    "plugins.verbs",
    "plugins.served",
    "plugins.stubs",
    "plugins.records",
    "plugins.namespaces",
    "plugins.peers",
    "plugins.heavy",
]

# A busy machine takes its time; how long an example takes says nothing of whether it holds.
settings.register_profile("default", deadline=None, max_examples=40)
# CI tries more examples, which are the same for the same commit.
settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Imported modules and collected tests stay: looking for garbage in it is a third of a worker's start, and of its end.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage in what tests leave from here on, less often than by default: it took a tenth of their time."""
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()
