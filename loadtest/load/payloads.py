"""Request bodies, job ids, and checks of responses."""

import csv
import json
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import jsonschema_rs
import msgspec

from loadtest.contract import TERMINAL, Outcome, Reason, RequestKind
from loadtest.errors import InputError
from loadtest.load.client import Answer
from loadtest.seeded_random import seeded_random

UNKNOWN_JOB: Final = "no-such-job"
_MAX_ROWS: Final = 1_000_000
_BLOCK: Final = 64
"""This many job ids are packed together. Unpacking them takes about 2 µs."""
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(list[str]).decode
_PARTS: Final = 1024
_MASK: Final = 2**64 - 1


class Bodies:
    """The request bodies of arrivals. A row of inputs adds to the common parameters, or overrides them.

    Arrival n uses row n modulo the number of rows, or a random row.
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
        # Bodies are encoded once here, so that no request waits for encoding.
        self._bodies = [
            msgspec.json.encode({"name": workflow, "parameters": {**parameters, **row}}) for row in rows or [{}]
        ]
        unknown = msgspec.json.encode({"name": "no-such-workflow", "parameters": dict(parameters)})
        self.wrong = {"unknown_workflow": unknown, "invalid_body": b'{"parameters": 42}'}
        """Bodies with deliberate mistakes, by kind of mistake."""
        self._random = order == "random"
        self._seed = seed

    def of(self, number: int) -> bytes:
        count = len(self._bodies)
        if self._random and count > 1:
            return self._bodies[int(seeded_random(*self._seed, number, "input") * count)]
        return self._bodies[number % count]


def read_inputs(path: Path) -> list[dict[str, Any]]:
    """Read a file of inputs: one JSON object per line (``.jsonl``, ``.ndjson``), or CSV with a header (``.csv``).

    A CSV value that is a JSON number, true, false or null is parsed as JSON. Other values are text. Raise
    ``InputError`` if the file cannot be used.
    """
    text = _read(path, "inputs", "Name a file of JSON lines or CSV.")
    if path.suffix == ".csv":
        rows = _csv_rows(path, text)
    elif path.suffix in {".jsonl", ".ndjson"}:
        rows = _json_rows(path, text)
    else:
        raise InputError(f"{path} has an unknown format", "Rename it to .jsonl or .csv, depending on its content.")
    if not rows or len(rows) > _MAX_ROWS:
        raise InputError(f"{path} holds {len(rows)} rows of inputs", f"Give it 1 to {_MAX_ROWS:,} rows.")
    return rows


def _json_rows(path: Path, text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not JSON: {error}", "Write one JSON object per line.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: not an object", 'Write one object per line, such as {"name": "Ada"}.')
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


class JobIds:
    """Job ids by the index of the key that submitted the job. Only this key can see the job.

    A long run creates hundreds of thousands of jobs, so full blocks of ids are packed to save memory.
    """

    def __init__(self, keys: int) -> None:
        self.keys = keys
        self._packed: list[list[bytes]] = [[] for _ in range(keys)]
        self._newest: list[list[str]] = [[] for _ in range(keys)]

    def add(self, job_id: str, key_index: int) -> None:
        newest = self._newest[key_index]
        newest.append(job_id)
        if len(newest) == _BLOCK:
            self._packed[key_index].append(_pack(newest))
            newest.clear()

    def all(self) -> list[tuple[str, int]]:
        return [
            (job_id, key)
            for key in range(self.keys)
            for block in (*map(_unpack, self._packed[key]), self._newest[key])
            for job_id in block
        ]

    def pick(self, number: int, key_index: int) -> str | None:
        """Return the id for an arrival, or None if its key has no ids. Arrivals take their key's ids in turn."""
        packed, newest = self._packed[key_index], self._newest[key_index]
        if not (count := len(packed) * _BLOCK + len(newest)):
            return None
        block, place = divmod(number // self.keys % count, _BLOCK)
        return (_unpack(packed[block]) if block < len(packed) else newest)[place]


def read_job_ids(path: Path, keys: int) -> JobIds:
    """Read a file with one job id per line. A tab and the index of the job's key may follow the id.

    Ids without an index are distributed over all keys. Raise ``InputError`` if the file cannot be read, has no id, or
    names an unknown key.
    """
    lines = _read(path, "job_ids", "Name a file with one job id per line.").splitlines()
    known = JobIds(keys)
    count = 0
    for number, line in enumerate(lines, 1):
        job_id, tab, index = line.strip().partition("\t")
        if not job_id:
            continue
        if tab and not (index.isdecimal() and int(index) < keys):
            raise InputError(
                f"{path}:{number}: {index!r} is not an index of the {keys} key(s) in use",
                "Set WORKFLOW_API_KEYS to all keys that created these jobs.",
            )
        known.add(job_id, int(index) if tab else count % keys)
        count += 1
    if count == 0:
        raise InputError(f"{path} has no job id", "Name a file with one job id per line, such as a run's job_ids.txt.")
    return known


class JobNumbers:
    """A table with a number for each job id, initially 0. It takes 16 bytes per job. A dictionary would take 250.

    Ids are identified by 64-bit hashes. The probability that two of a million ids collide is 3 in 100 million.
    """

    def __init__(self) -> None:
        self._hashes = [array("Q") for _ in range(_PARTS)]
        self._numbers = [array("q") for _ in range(_PARTS)]

    def __getitem__(self, job_id: str) -> int:
        part, place, found = self._find(job_id)
        return self._numbers[part][place] if found else 0

    def __setitem__(self, job_id: str, number: int) -> None:
        part, place, found = self._find(job_id)
        if not found:
            # A part has about 1,000 sorted hashes per million jobs, so an insertion takes well below a microsecond.
            self._hashes[part].insert(place, hash(job_id) & _MASK)
            self._numbers[part].insert(place, 0)
        self._numbers[part][place] = number

    def _find(self, job_id: str) -> tuple[int, int, bool]:
        """Return the part, the place within it, and whether the id is known."""
        hashed = hash(job_id) & _MASK
        part = hashed % _PARTS
        hashes = self._hashes[part]
        place = bisect_left(hashes, hashed)
        return part, place, place < len(hashes) and hashes[place] == hashed


class JobHistory:
    """Compares answers about jobs with earlier answers of the same run.

    If an answer contradicts an earlier answer, the operation fails, but the request does not.
    """

    def __init__(self) -> None:
        # A job's number is 2 × the time (ns) of the first answer that states its end (0 before), plus 1 if a submit
        # returned its id.
        self._known = JobNumbers()

    def contradiction(self, kind: RequestKind, answer: Answer) -> Reason | None:
        """Add an answer. Return a reason if it contradicts an earlier answer.

        The answer to a submit is a contradiction if it has another job's id. Any other answer is a contradiction if the
        job is pending, although an answer that came before this request showed the job as ended.
        """
        job_id = answer.job_id
        if job_id is None or answer.outcome != Outcome.OK or answer.job_state is None:
            return None
        ended, accepted = divmod(self._known[job_id], 2)
        if kind == RequestKind.SUBMIT:
            self._known[job_id] = 2 * ended + 1
            return Reason.DUPLICATE_JOB_ID if accepted else None
        if answer.job_state in TERMINAL:
            if not ended:
                self._known[job_id] = 2 * answer.exchange.end + accepted
        elif ended and answer.exchange.start >= ended:
            return Reason.BACK_TO_PENDING
        return None


class Matcher:
    """Checks whether a result has required keys and values, also in nested objects, and matches a JSON schema."""

    def __init__(self, subset: dict[str, Any] | None, schema: dict[str, Any] | bool | None) -> None:
        self._subset = subset
        self._validator = None if schema is None else jsonschema_rs.validator_for(schema, retriever=_Elsewhere())

    def matches(self, result: Any) -> bool:
        if self._subset is not None and not contains(result, self._subset):
            return False
        return self._validator is None or self._validator.is_valid(result)


def contains(value: Any, wanted: Any) -> bool:
    """Whether ``value`` equals ``wanted``, or is an object with at least the keys and values of ``wanted``."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(key in value and contains(value[key], wanted[key]) for key in wanted)
    # True == 1 in Python, but not in JSON.
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def read_schema(path: Path) -> Any:
    """Read a JSON schema. Raise ``InputError`` if the file cannot be read or is not a schema."""
    text = _read(path, "result_schema", "Name a file with a JSON schema.")
    schema, elsewhere = None, _Elsewhere()
    try:
        schema = json.loads(text)
        jsonschema_rs.validator_for(schema, retriever=elsewhere)
    except (ValueError, RecursionError) as error:
        if elsewhere.uri is not None:
            key = next((key for key, value in _references(schema, "$") if elsewhere.uri.endswith(value)), "$")
            raise InputError(
                f"{path}: {key} refers to {elsewhere.uri!r}, which is outside the file",
                "Copy that schema into this file, below $defs.",
            ) from None
        reason = str(error).splitlines()[0] if str(error) else "it cannot be read"
        raise InputError(f"{path} is not a JSON schema: {reason}", "See json-schema.org.") from None
    return schema


class _Elsewhere:
    """A retriever that fetches nothing, because a reference may lead to any host or file.

    ``uri`` is the last URI that a schema referred to.
    """

    uri: str | None = None

    def __call__(self, uri: str) -> Any:
        self.uri = uri
        raise ValueError(uri)


def _references(schema: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield each reference from a schema to another document, as the reference's key and the document."""
    children = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    for name, value in children:
        if name == "$ref" and isinstance(value, str) and not value.startswith("#"):
            yield f"{key}.{name}", value.partition("#")[0]
        yield from _references(value, f"{key}.{name}")


def _read(path: Path, key: str, remedy: str) -> str:
    """Read the text of a regular file, or raise ``InputError``. Reading a device or a pipe might never end."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"cannot read {key} from {path}: it is not a regular file", remedy)
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        # ValueErrors come from invalid UTF-8 and from paths with a NUL.
        why = (error.strerror or error) if isinstance(error, OSError) else error
        raise InputError(f"cannot read {key} from {path}: {why}", remedy) from error
