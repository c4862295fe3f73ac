"""``python -m loadtest.load.check FILE...``: check the inputs, schemas, job ids and user classes of scenarios.

It prints a JSON list that contains a list of errors for each FILE, in order. It sends no requests. Two scenarios with
user classes need separate processes: the classes are imported, and their modules may have the same name.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from loadtest.contract import JOB_OPERATIONS
from loadtest.errors import InputError
from loadtest.scenario import Traffic, load_scenario


def mistakes(path: Path) -> list[str]:
    """Return the errors in the files and user classes that a scenario names. Each error states the scenario's key."""
    loaded = load_scenario(path)
    entries = loaded.scenario.traffic
    if any(traffic.user is not None for traffic in entries.values()):
        # Locust patches the interpreter, so it is imported before other modules of this package.
        import locust  # noqa: F401, PLC0415 - slow to import, and only user classes need it
    found = []
    for name, traffic in entries.items():
        for key, check in _checks(name, traffic, path.parent, loaded.scenario.keys):
            try:
                check()
            except InputError as error:
                found.append(f"{path}: {key}{error}")
    return found


def _checks(name: str, traffic: Traffic, base: Path, keys: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield a key and a check for each file and class that an entry names. A check that fails raises ``InputError``."""
    from loadtest.load.payloads import read_inputs, read_job_ids, read_schema  # noqa: PLC0415 - must follow Locust

    if (inputs := traffic.inputs) is not None:
        yield f"traffic.{name}.inputs: ", lambda: read_inputs(base / inputs)
    if (schema := traffic.expect.result_schema) is not None:
        yield f"traffic.{name}.expect.result_schema: ", lambda: read_schema(base / schema)
    if traffic.operation in JOB_OPERATIONS and traffic.job_ids not in {"seeded", "run"}:
        yield f"traffic.{name}.job_ids: ", lambda: read_job_ids(base / traffic.job_ids, keys)
    if traffic.user is not None:
        from loadtest.load.users import find_class  # noqa: PLC0415 - imports Locust

        yield "", lambda: find_class(name, traffic, base)


if __name__ == "__main__":
    # Modules of user classes may print while they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        found = [mistakes(Path(file)) for file in sys.argv[1:]]
    print(msgspec.json.encode(found).decode())
