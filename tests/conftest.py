"""What holds for all tests."""

import os

from hypothesis import settings

# Fixtures for every folder; a folder's own conftest.py holds what only it needs.
pytest_plugins = [
    "plugins.processes",
    "plugins.served",
    "plugins.stubs",
    "plugins.records",
    "plugins.namespaces",
    "plugins.workers",
    "plugins.peers",
]

# A busy machine takes its time; how long an example takes says nothing of whether it holds.
settings.register_profile("exploring", deadline=None)
# A gate has to say the same of the same commit; new counter-examples are looked for wherever else the tests run.
settings.register_profile("gate", deadline=None, derandomize=True, database=None)
settings.load_profile("gate" if os.environ.get("CI") else "exploring")
