"""Import of logs as the record of a run. Clients other than loadtest sent the requests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from loadtest.arrays import Ints
from loadtest.contract import DOCUMENTED, FIRST_KIND, THROTTLED_STATUS, LimitName, Operation, Outcome, Reason
from loadtest.errors import InputError
from loadtest.http_headers import PACKAGE, package_version
from loadtest.logs import formats
from loadtest.logs.formats import STDIN, Format, Opener, Source
from loadtest.logs.requests import OPERATIONS, LogRequests, patterns
from loadtest.record import run_directory
from loadtest.record.run_info import (
    KeySource,
    RunInfo,
    ScenarioInfo,
    SourceInfo,
    StagePlan,
    StampPlace,
    TargetInfo,
    TrafficPlan,
)
from loadtest.record.samples import SCHEMA, WORDS, SampleWriter, warm_up_without_pandas
from loadtest.units import Limit
from loadtest.words import counted, joined

STAGE: Final = "log"
_NAME: Final = "imported"
_ROWS: Final = 65_536
"""A batch of the record has at most this many log lines."""
_LONGEST_S: Final = 100 * 86_400
"""Logs that span more than this (in s) are refused. An analysis can represent at most 104 days to the nanosecond."""
_SAMPLE: Final = 100
"""Number of lines used to detect a format."""
_DESCRIBE: Final = "Describe the lines: --format '$remote_addr [$time_local] \"$request\" $status $request_time'."
_MAP: Final = "Name its paths: --map 'POST /run=sync_run'."
_KEYS: Final[dict[KeySource, str]] = {"header": "key", "address": "address"}
"""For each origin of keys, the log's column that has the keys."""
_HAR: Final = Format("har", lambda _: {}, "start")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """The user's statements about the logs.

    Attributes:
        format: a format's name, or a text like nginx's ``log_format``; empty to detect the format.
        maps: additional paths: ``METHOD /PATH=OPERATION``.
        limits: limits that differ from the documentation.
        host: the only host to import; empty if the log has a single host.
        key: the origin of keys. None stands for the first that the log has: header, address or no key.
        stamp: whether a line's time is the start or the end of its request. None: the format decides.
    """

    format: str = ""
    maps: tuple[str, ...] = ()
    limits: Mapping[LimitName, Limit]
    host: str = ""
    key: KeySource | None = None
    stamp: StampPlace | None = None


def import_logs(names: Sequence[str], output_dir: Path, options: ImportOptions, opener: Opener = FileIO) -> Path:
    """Make a run directory from logs. The logs may overlap in time and come in any order. ``opener`` opens each log.

    Raises ``InputError`` if a log cannot be read, or no request can be imported.
    """
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise InputError(f"{twice[0]} is given twice", "Give each log once.")
    warm_up_without_pandas()
    found = LogRequests(patterns(options.maps), options.stamp)
    given = formats.of_variables(options.format) if options.format else None
    for name in names:
        with formats.opened(name, opener) as source:
            _take(found, source, given)
    columns = _of_one_host(_checked(found, names), options.host)
    info = _info(found, columns, options)
    directory = run_directory.new_run_directory(output_dir, _NAME)
    info.id = directory.name
    writer = SampleWriter(directory)
    for batch in _batches(columns, info):
        writer.write_batch(batch)
    writer.close()
    info.samples = writer.count
    run_directory.save(info, directory)
    run_directory.point_latest(directory)
    return directory


def _take(found: LogRequests, source: Source, given: Format | None) -> None:
    if source.is_har:
        found.add(_HAR, formats.har_fields(source))
        return
    form, empty = given, True
    for block in filter(len, formats.blocks(source)):
        form = form or formats.detect(block[:_SAMPLE])
        empty = False
        if form is None:
            first = formats.masked(block[0].as_py())
            raise InputError(f"{source.name} is in no known format. Its first line, masked:\n    {first}", _DESCRIBE)
        found.add(form, form.parse(block), block)
    if empty:
        named = "standard input" if source.name == STDIN else source.name
        raise InputError(f"{named} is empty", "Give a log with at least one line.")


def _checked(found: LogRequests, names: Sequence[str]) -> pa.Table:
    if found.parts:
        return found.whole()
    wrong, example, remedy = "is a request of the Workflow API", found.other_example, _MAP
    if found.unknown >= found.lines:
        wrong, example, remedy = "has a time, a request and a status", found.example, _DESCRIBE
    none = f"{joined([*names])}: no line {wrong} ({counted(found.lines, 'line')} read)"
    raise InputError(f"{none}. Example, masked:\n    {formats.masked(example)}", remedy)


def _of_one_host(table: pa.Table, wanted: str) -> pa.Table:
    known = table.filter(table["host"].is_valid())["host"]
    by_count = {each["values"].decode(errors="replace"): each["counts"] for each in known.value_counts().to_pylist()}
    hosts = sorted(by_count, key=lambda host: -by_count[host])
    said = joined([f"{host} ({by_count[host]:,})" for host in hosts[:5]])
    if wanted:
        if wanted not in hosts:
            raise InputError(f"--host {wanted}: no request is for this host", f"The log has {said or 'no hosts'}.")
        return table.filter(compute.equal(table["host"].cast(pa.binary()), wanted.encode()))
    if len(hosts) > 1:
        raise InputError(f"the requests are for several hosts: {said}", f"Choose a host: --host {hosts[0]}")
    return table


def _info(found: LogRequests, columns: pa.Table, options: ImportOptions) -> RunInfo:
    starts: Ints = columns["start"].to_numpy()
    if starts[-1] - starts[0] > _LONGEST_S * 1e9:  # a wrong stamp can be the cause
        days = (_moment(starts[place] / 1e9)[:10] for place in (0, -1))
        raise InputError(
            f"the requests are from {' to '.join(days)}; a run covers at most 100 days",
            "Import fewer logs at a time, and correct wrong stamps.",
        )
    source = _source(found, columns, options.key)
    start, ends = int(starts[0]), starts + columns["took"].fill_null(0).to_numpy()
    seconds = max(float(ends.max() - start) / 1e9, 0.0) + max(source.grain_s, 0.001)
    counts = np.bincount(columns["operation"].to_numpy(), minlength=len(OPERATIONS)).tolist()
    keys = 1 if source.key == "none" else max(1, len(columns[_KEYS[source.key]].chunk(0).dictionary))
    return RunInfo(
        id="",
        kind="imported",
        source=source,
        scenario=ScenarioInfo(name=_NAME, title="Requests of a log", hash="", effective={}),
        seed=0,
        target=TargetInfo(
            url="",
            embedded=False,
            limits={str(name): limit for name, limit in {**DOCUMENTED, **options.limits}.items()},
            limit_scope="name" if source.key == "none" else "key-and-name",
        ),
        keys=keys,
        workers=0,
        traffic={
            str(operation): _traffic(operation, count, seconds, keys)
            for operation, count in zip(OPERATIONS, counts, strict=True)
            if count
        },
        versions={PACKAGE: package_version()},
        machine={},
        command=["loadtest", "import"],
        started=_moment(start / 1e9),
        epoch_unix_ns=start,
        ended=_moment(start / 1e9 + seconds),
        elapsed_s=seconds,
        end="finished",
    )


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def _source(found: LogRequests, columns: pa.Table, key: KeySource | None) -> SourceInfo:
    used: list[KeySource] = [name for name, role in _KEYS.items() if columns[role].null_count < len(columns)]
    return SourceInfo(
        format=", ".join(found.formats),
        lines=found.lines,
        unknown_lines=found.unknown,
        other_lines=found.others,
        grain_s=10.0**-found.digits,
        stamp=min(found.stamps),
        service_times=columns["took"].null_count < len(columns),
        key=key or (used or ["none"])[0],
        zone=not found.zoneless,
    )


def _traffic(operation: Operation, n: int, seconds: float, keys: int) -> TrafficPlan:
    stage = StagePlan(name=STAGE, start_s=0.0, duration_s=seconds, rate=n / seconds, rate_to=n / seconds)
    return TrafficPlan(
        operation=operation, workflow=None, arrivals="even", users=0, key_count=keys, offered=n, stages=[stage]
    )


def _batches(columns: pa.Table, info: RunInfo) -> Iterator[pa.RecordBatch]:
    """Yield a batch of request rows and a batch of operation rows for every ``_ROWS`` log lines."""
    operation = columns["operation"].to_numpy()
    number = np.zeros(len(operation), np.int64)
    for place in range(len(OPERATIONS)):
        own = operation == place
        number[own] = np.arange(int(own.sum()))
    start = compute.subtract(columns["start"], info.epoch_unix_ns)
    columns = columns.set_column(0, "start", start).append_column("number", pa.array(number))
    for some in columns.combine_chunks().to_batches(_ROWS):
        yield from _rows(some, _KEYS.get(info.source.key) if info.source else None)


_OUTCOMES: Final = (Outcome.OK, Outcome.THROTTLED, Outcome.FAILED)
_REASONS: Final = (Reason.THROTTLED, Reason.UNEXPECTED_STATUS, Reason.CONNECTION_CLOSED)


def _rows(columns: pa.RecordBatch, key: str | None) -> Iterator[pa.RecordBatch]:
    operation, start, n = columns["operation"].to_numpy(), columns["start"], len(columns)
    status = columns["status"].fill_null(-1).to_numpy()
    ok, end = (status >= 200) & (status < 400), compute.add(start, columns["took"])
    named = _words(operation, [*map(str, OPERATIONS)])
    outcome = np.where(ok, 0, np.where(status == THROTTLED_STATUS, 1, 2))
    both = {
        "traffic": named,
        "operation": named,
        "stage": _words(np.zeros(n, np.int8), [STAGE]),
        "outcome": _words(outcome, [*map(str, _OUTCOMES)]),
        "reason": _words(np.where(status < 0, 2, outcome - 1), [*map(str, _REASONS)]),
        "attempt": pa.array(np.ones(n, np.int32)),
        "start": start,
        "end": end,
        "status": columns["status"],
        "retry_after": _decoded(columns["retry_after"]),
        "worker": pa.array(np.zeros(n, np.int32)),
    }
    if key is not None:
        both["key_index"] = columns[key].indices
    yield _batch("request", n, both | {
        "kind": _words(operation, [str(FIRST_KIND[each]) for each in OPERATIONS]),
        "parent_arrival": columns["number"],
        "bytes_received": columns["size"],
        "rate_limit": _decoded(columns["rate_limit"]).dictionary_decode(),
    })  # fmt: skip
    yield _batch("operation", n, both | {
        "arrival": columns["number"],
        "accepted_start": compute.if_else(pa.array(ok), start, None),
        "accepted_end": compute.if_else(pa.array(ok), end, None),
    })  # fmt: skip


def _batch(row: str, n: int, columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    columns = {**columns, "row": _words(np.zeros(n, np.int8), [row])}
    empty = _words(np.full(n, -1, np.int8), [])
    arrays = [
        columns[each.name].cast(each.type)
        if each.name in columns
        else (empty if each.name in WORDS else pa.nulls(n, each.type))
        for each in SCHEMA
    ]
    return pa.record_batch(arrays, schema=SCHEMA)


def _words(places: NDArray[Any], words: list[str]) -> pa.DictionaryArray:
    indices = pa.array(places.astype(np.int32), mask=places < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


def _decoded(column: pa.DictionaryArray) -> pa.DictionaryArray:
    words = [text.decode(errors="replace") for text in column.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(column.indices, pa.array(words, pa.string()))
