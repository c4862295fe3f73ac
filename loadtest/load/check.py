"""``python -m loadtest.load.check FILE...``: whether inputs, schemas, job ids and classes of scenarios can be used.

Writes JSON: for each FILE, in order, its mistakes. Sends nothing. Classes of users are imported as for a run, so that a
scenario with some should have a process of its own: modules of two may have the same name.
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
    """What is wrong with the files and classes that a scenario names, each with its key."""
    loaded = load_scenario(path)
    entries = loaded.scenario.traffic
    if any(traffic.user is not None for traffic in entries.values()):
        # Before anything else of the load, since it patches the interpreter.
        import locust  # noqa: F401, PLC0415 - slow to import, and only classes need it
    found = []
    for name, traffic in entries.items():
        for key, look in _looks(name, traffic, path.parent, loaded.scenario.keys):
            try:
                look()
            except InputError as error:
                found.append(f"{path}: {key}{error}")
    return found


def _looks(name: str, traffic: Traffic, base: Path, keys: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Ways to look at each thing that an entry names, with its key; each raises if it cannot be used."""
    from loadtest.load.payloads import read_inputs, read_job_ids, read_schema  # noqa: PLC0415 - after Locust

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
    # What modules of users print while they are imported goes elsewhere.
    with contextlib.redirect_stdout(sys.stderr):
        found = [mistakes(Path(file)) for file in sys.argv[1:]]
    print(msgspec.json.encode(found).decode())
