"""``python -m loadtest.load.check FILE...``: check the inputs, schemas, job ids and user classes of scenarios.

It prints a JSON list that contains a list of errors for each FILE, in order. It sends no requests. Two scenarios with
user classes need separate processes: the classes are imported, and their modules may have the same name.
"""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from loadtest.contract import JOB_OPERATIONS
from loadtest.errors import InputError
from loadtest.scenario import load_scenario


def mistakes(path: Path) -> list[str]:
    """Return the errors in the files and user classes that a scenario names.

    Each error states the key in the scenario that names the file or class.
    """
    loaded = load_scenario(path)
    base = path.parent
    entries = loaded.scenario.traffic
    if any(traffic.user is not None for traffic in entries.values()):
        # Locust patches the interpreter, so it is imported before the other modules of this folder.
        import locust  # noqa: F401, PLC0415 - slow to import, and only user classes need it
    from loadtest.load.payloads import read_inputs, read_job_ids, read_schema  # noqa: PLC0415 - must follow Locust

    found = []

    def check(key: str, read: Callable[..., Any], *about: Any) -> None:
        try:
            read(*about)
        except InputError as error:
            found.append(f"{path}: {key}{error}")

    for name, traffic in entries.items():
        if traffic.inputs is not None:
            check(f"traffic.{name}.inputs: ", read_inputs, base / traffic.inputs)
        if traffic.expect.result_schema is not None:
            check(f"traffic.{name}.expect.result_schema: ", read_schema, base / traffic.expect.result_schema)
        if traffic.operation in JOB_OPERATIONS and traffic.job_ids not in {"seeded", "run"}:
            check(f"traffic.{name}.job_ids: ", read_job_ids, base / traffic.job_ids, loaded.scenario.keys)
        if traffic.user is not None:
            from loadtest.load.users import find_class  # noqa: PLC0415 - imports Locust

            check("", find_class, name, traffic, base)
    return found


if __name__ == "__main__":
    # Modules of user classes may print while they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        found = [mistakes(Path(file)) for file in sys.argv[1:]]
    print(msgspec.json.encode(found).decode())
