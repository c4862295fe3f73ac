"""What runs and submits send: parameters that vary by a file of inputs, and requests that are wrong on purpose."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from loadtest.draws import draw
from loadtest.errors import InputError
from loadtest.scenario import MistakeKind

UNKNOWN_WORKFLOW: Final = "no-such-workflow"
UNKNOWN_JOB: Final = "no-such-job"
INVALID_BODY: Final = b'{"parameters": 42}'
"""Without a name, and with parameters that are no object."""
_MAX_ROWS: Final = 1_000_000


class Bodies:
    """The request body of each arrival.

    Args:
        workflow: its name.
        parameters: what every operation sends.
        rows: inputs, each laid over ``parameters``; none sends ``parameters`` alone.
        order: whether arrival n takes row n modulo their number, or one drawn for it.
        seed: of the draw.
    """

    def __init__(
        self,
        workflow: str,
        parameters: Mapping[str, Any],
        rows: list[dict[str, Any]] | None = None,
        *,
        order: Literal["sequential", "random"] = "sequential",
        seed: tuple[int, str] = (0, ""),
    ) -> None:
        # Encoded once and here: nothing is left to do on the way of a request.
        self._bodies = [
            msgspec.json.encode({"name": workflow, "parameters": {**parameters, **row}}) for row in rows or [{}]
        ]
        self.unknown_workflow = msgspec.json.encode({"name": UNKNOWN_WORKFLOW, "parameters": dict(parameters)})
        self._random = order == "random"
        self._seed = seed

    def of(self, number: int) -> bytes:
        """The body of arrival ``number``."""
        count = len(self._bodies)
        if count == 1:
            return self._bodies[0]
        return self._bodies[int(draw(*self._seed, number, "input") * count) if self._random else number % count]


def read_inputs(path: Path) -> list[dict[str, Any]]:
    """Read inputs: a JSON object a line (``.jsonl``, ``.ndjson``), or CSV with a header (``.csv``).

    A CSV value that reads as a JSON number, true, false or null is that; anything else is text.

    Raises:
        InputError: naming file and line, if it cannot be read, holds no row, or a row is no object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read inputs from {path}: {error}", "Name a file of JSON lines or CSV.") from error
    if path.suffix == ".csv":
        rows = _csv_rows(path, text)
    elif path.suffix in {".jsonl", ".ndjson"}:
        rows = _json_rows(path, text)
    else:
        raise InputError(f"{path} is no kind of inputs that is known", "Name it .jsonl or .csv, as what it holds.")
    if not rows or len(rows) > _MAX_ROWS:
        raise InputError(f"{path} holds {len(rows)} rows of inputs", f"Give it at least one, at most {_MAX_ROWS:,}.")
    return rows


def mistake_of(shares: Mapping[MistakeKind, float], seed: int, traffic: str, number: int) -> MistakeKind | None:
    """Which mistake arrival ``number`` is to make, if any: drawn for it, so that every run makes the same."""
    if not shares:
        return None
    left = draw(seed, traffic, number, "mistake")
    for kind, share in shares.items():
        if left < share:
            return kind
        left -= share
    return None


def _json_rows(path: Path, text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not JSON: {error}", "Write one JSON object a line.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: no object", 'Write one JSON object a line, as {"name": "Ada"}.')
        rows.append(row)
    return rows


def _csv_rows(path: Path, text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{path}:{reader.line_num}: more or fewer values than the header has names")
            rows.append({name: _csv_value(value) for name, value in row.items()})
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    return rows


def _csv_value(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float | bool | None) else text
