"""Tables of a run's operations and requests: pandas DataFrames for a notebook, Parquet and CSV for other tools.

Each column is declared once, with its name, type, meaning and values. Columns that end in ``_ns`` are moments in ns
since the epoch of the run. Derived times have the formulas of the module ``times``, as in ``metrics.json``.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from loadtest.analysis.columns import OPERATION, REQUEST, Rows, Vocabulary
from loadtest.analysis.reader import LATEST_NS, read_chunks
from loadtest.analysis.times import FORMULAS
from loadtest.arrays import Bools
from loadtest.contract import LIMIT_OF_KIND, LIMIT_OF_OPERATION, POLLED_OPERATIONS, LimitName
from loadtest.errors import InputError
from loadtest.record import run_directory
from loadtest.record.samples import SCHEMA, safe_cells

if TYPE_CHECKING:
    import pandas as pd

Run = str | Path
_WORD: Final = pa.dictionary(pa.int32(), pa.string())
_TIMESTAMP: Final = pa.timestamp("ns", "UTC")
_ROW_GROUP: Final = 250_000
"""A row group of a Parquet file has at least this many rows; the last row group may have fewer."""


@dataclass(frozen=True, eq=False)
class _Part:
    """The operations, or the requests, in a chunk of a record.

    ``counted`` is ``Chunk.operations`` or ``Chunk.requests``.
    """

    run: str
    epoch_unix_ns: int | None
    rows_before: int
    rows: Rows
    counted: Rows

    def are(self, some: Rows) -> Bools:
        """Return True for each row that is in ``some``, another selection from the chunk."""
        among = np.zeros(self.rows.columns.count, bool)
        among[some.places] = True
        return np.asarray(among[self.rows.places])

    @property
    def in_figures(self) -> Bools:
        """True for rows that counts and rates include."""
        return np.asarray(self.are(self.counted) & self.rows.columns.vocabulary.in_figures[self.rows.stage_index])

    def recorded(self, name: str) -> pa.Array:
        """Return a column as recorded. For a column of words, use ``_word``."""
        return self.rows.columns.arrow(name).take(pa.array(self.rows.places))


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    type: pa.DataType
    meaning: str
    values: Callable[[_Part], pa.Array]

    @property
    def unit(self) -> str:
        """``UTC`` for timestamps; ``ns``, ``ms`` or ``bytes`` if the name contains it; empty otherwise."""
        if self.type == _TIMESTAMP:
            return "UTC"
        return next((unit for unit in ("ns", "ms", "bytes") if unit in self.name.split("_")), "")


def _words(codes: NDArray[np.int32], words: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=codes < 0), pa.array(words, pa.string()))


def _word(name: str, meaning: str) -> Column:
    def values(part: _Part) -> pa.Array:
        return _words(part.rows.words(name), part.rows.columns.vocabulary.words[name])

    return Column(name, _WORD, meaning, values)


def _recorded(name: str, meaning: str, source: str = "") -> Column:
    kind = SCHEMA.field(source or name).type
    kind = pa.int64() if pa.types.is_integer(kind) else kind
    return Column(name, kind, meaning, lambda part: part.recorded(source or name).cast(kind))


def _timestamp(name: str, meaning: str) -> Column:
    def values(part: _Part) -> pa.Array:
        since = part.recorded(name)
        # The time of a damaged row may be off by centuries, and the addition would then overflow.
        near = pc.less_equal(pc.abs(since.cast(pa.float64(), safe=False)), LATEST_NS)
        epoch = pa.scalar(part.epoch_unix_ns, pa.int64())
        return pc.add(pc.if_else(near, since, None), epoch).cast(_TIMESTAMP)

    return Column(name, _TIMESTAMP, meaning, values)


def _jobs(rows: Rows) -> Rows:
    codes = rows.columns.vocabulary.codes("operation", list(POLLED_OPERATIONS))
    return rows.where(np.isin(rows.words("operation"), codes))


def _ended_jobs(rows: Rows) -> Rows:
    return _jobs(rows).without_mistakes.ok


def _derived(name: str, meaning: str, of: Callable[[Rows], Rows] = lambda rows: rows) -> Column:
    def values(part: _Part) -> pa.Array:
        chosen = of(part.rows)
        found = np.full(len(part.rows), np.nan)
        found[part.are(chosen)] = FORMULAS[name](chosen)
        # Unknown values are NaN in the analysis, and null in the table.
        return pa.array(found, pa.float64(), from_pandas=True)

    return Column(name, pa.float64(), meaning, values)


def _limit(name: str, limit_of: Mapping[Any, LimitName]) -> Column:
    """Return a column with the limit of each row. ``limit_of`` maps the words of the column ``name`` to limits."""
    limits = list(LimitName)

    def values(part: _Part) -> pa.Array:
        drawn = [limit_of.get(word) for word in part.rows.columns.vocabulary.words[name]]
        codes = np.array([-1 if limit is None else limits.index(limit) for limit in (*drawn, None)], np.int32)
        return _words(codes[part.rows.words(name)], limits)

    return Column(
        "limit",
        _WORD,
        "name of the limit that the request counts against; for an operation, that of its first request",
        values,
    )


_FIRST: Final = (
    Column("run", _WORD, "the run's directory", lambda part: _words(np.zeros(len(part.rows), np.int32), [part.run])),
    Column(
        "record_row", pa.int64(), "number of the row in the record, from 1 on",
        lambda part: pa.array(part.rows.places + part.rows_before + 1, pa.int64()),
    ),
    _word("traffic", "name of the traffic entry"),
    _word("operation", "kind of the arrival's work: sync run, async run or retrieval"),
    _word("stage", "stage of the traffic entry; `setup` for requests before the epoch"),
    Column(
        "in_figures", pa.bool_(), "whether counts and rates include the row; false in warm-up and set-up",
        lambda part: pa.array(part.in_figures),
    ),
    Column(
        "in_latency", pa.bool_(),
        "whether latencies include the row: it is in figures, ok or timed out, and without a mistake",
        lambda part: pa.array(part.in_figures & part.are(part.rows.without_mistakes.answered)),
    ),
    _word("outcome", "outcome of the operation or request"),
    _word("reason", "reason why the outcome is not ok"),
    _recorded("status", "HTTP status; for an operation, the status of its last request"),
    _word("error_code", "`code` of the API's error body; for the reason `wrong_shape`, the body's defect"),
    _word("mistake", "the deliberate mistake"),
    _timestamp("intended_start", "scheduled start; for polls and retries, the start that their policy chose"),
    _timestamp("start", "time when connecting or sending began"),
    _timestamp("end", "time when the response was complete, or the client gave up"),
    _recorded("intended_start_ns", "`intended_start`, in ns since the epoch", "intended_start"),
    _recorded("start_ns", "`start`, in ns since the epoch", "start"),
    _recorded("end_ns", "`end`, in ns since the epoch", "end"),
    _derived("start_lag_ms", "start − intended start"),
    _recorded("execution_time_ms", "executionTime as reported by the server"),
)  # fmt: skip
_LAST: Final = (
    _recorded("job_id", "id of the job"),
    _word("job_state", "state of the job in the response; for an operation, that of its last request"),
    _recorded("key_index", "index of the API key"),
    _recorded("worker", "number of the worker that sent the request; 0 if one process made the run"),
    _recorded("request_id", "the W3C `traceparent` that was sent; for an operation, its trace id"),
)

OPERATIONS: Final = (
    *_FIRST,
    _limit("operation", LIMIT_OF_OPERATION),
    _recorded("arrival", "number of the arrival in its traffic entry, from 0 on"),
    _recorded("attempts", "number of attempts of the operation's first request", "attempt"),
    _recorded("polls", "number of polls sent", "poll"),
    _recorded("user_free_ns", "time when the user that took the arrival became free, since the epoch", "user_free"),
    _recorded("accepted_start_ns", "start of the ok request of kind run, submit or retrieve", "accepted_start"),
    _recorded("accepted_end_ns", "end of the ok request of kind run, submit or retrieve", "accepted_end"),
    _recorded("pending_seen_ns", "start of the last request that found the job pending", "pending_seen"),
    _derived("response_time_ms", "end − intended start"),
    _derived("dispatch_lag_ms", "start − max(intended start, user free)"),
    _derived(
        "overhead_ms",
        "sync run: service time − executionTime; async run: end − start − executionTime; null for retrievals",
    ),
    _derived("submit_ms", "service time of the submit (async runs only)", _jobs),
    _derived("time_to_result_ms", "upper bound of the time to result: the response time (async runs only)", _jobs),
    _derived("time_to_result_lower_ms", "lower bound of the time to result (async runs only)", _jobs),
    _derived("queue_wait_lower_ms", "lower bound of the queue wait (async runs only)", _ended_jobs),
    _derived("queue_wait_upper_ms", "upper bound of the queue wait (async runs only)", _ended_jobs),
    _derived("poll_lag_upper_ms", "upper bound of the poll lag (async runs only)", _ended_jobs),
    _recorded("result_matched", "whether the result was the expected result"),
    *_LAST,
)
"""Columns of the table with a row for each operation."""

REQUESTS: Final = (
    *_FIRST,
    _limit("kind", LIMIT_OF_KIND),
    _word("kind", "kind of request: run, submit, poll or retrieve"),
    _recorded("arrival", "number of the arrival whose operation sent the request", "parent_arrival"),
    _recorded("attempt", "1-based number of the attempt"),
    _recorded("poll", "1-based number of a poll"),
    _recorded("first_byte_ns", "time of the response's first byte, since the epoch", "first_byte"),
    _derived("service_time_ms", "end − start"),
    _derived("first_byte_ms", "first byte of the response − start"),
    _recorded("connect_ms", "time to connect; null if a connection was reused"),
    _recorded("connection_reused", "whether a connection was reused"),
    _word("retry_after", "text of the `Retry-After` header"),
    _recorded("rate_limit", "all headers about rate limits, one per line"),
    _recorded("bytes_sent", "size of the request"),
    _recorded("bytes_received", "size of the response"),
    *_LAST,
)
"""Columns of the table with a row for each HTTP request."""
_TABLES: Final = {"operations": (OPERATION, OPERATIONS), "requests": (REQUEST, REQUESTS)}
"""By table name: the code of its rows in the record, and its columns."""


def operations(runs: Run | Iterable[Run], *, reports: Path = Path("reports")) -> "pd.DataFrame":
    """Return a row for each operation of one or several runs, with the columns of ``OPERATIONS``.

    Whole numbers are ``Int64``, and words are categorical. ``intended_start``, ``start`` and ``end`` are timestamps.

    Args:
        runs: a run directory, a run's id, ``latest``, or several of these. The column ``run`` distinguishes them.
        reports: directory that contains runs given by id.

    Raises:
        InputError: if there is no such run.
        RecordError: if a run cannot be read as a record.
    """
    return _frame("operations", runs, reports)


def requests(runs: Run | Iterable[Run], *, reports: Path = Path("reports")) -> "pd.DataFrame":
    """Return a row for each HTTP request of one or several runs, with the columns of ``REQUESTS``.

    ``run``, ``traffic`` and ``arrival`` identify a request's operation. Arguments are those of ``operations``.
    """
    return _frame("requests", runs, reports)


def _frame(name: str, runs: Run | Iterable[Run], reports: Path) -> "pd.DataFrame":
    wanted = [runs] if isinstance(runs, str | Path) else runs
    directories = list(dict.fromkeys(run_directory.find_run(str(run), reports) for run in wanted))
    called = zip(directories, names_of(directories), strict=True)
    parts = [part for directory, run in called for part in _tables(directory, name, run)]
    table = pa.concat_tables([_schema(name).empty_table(), *parts]).unify_dictionaries()
    frame: pd.DataFrame = table.to_pandas(types_mapper=_nullable)
    for column in frame.select_dtypes("category"):
        frame[column] = frame[column].cat.remove_unused_categories()
    return frame


def _nullable(kind: pa.DataType) -> Any:
    import pandas as pd  # noqa: PLC0415 - slow to import, and reports do not need it

    return {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get(kind)


def names_of(directories: Sequence[Path]) -> list[str]:
    """Return the name of each run directory, or the directory's path if another directory has the same name."""
    often = Counter(directory.name for directory in directories)
    return [each.name if often[each.name] == 1 else str(each) for each in directories]


def _schema(name: str) -> pa.Schema:
    _, columns = _TABLES[name]
    # Only Arrow reads the metadata of fields. Other readers of Parquet find the units in the metadata of the schema.
    units = {column.name: column.unit for column in columns if column.unit}
    schema = pa.schema(
        [pa.field(each.name, each.type, metadata={"unit": each.unit, "meaning": each.meaning}) for each in columns]
    )
    # Without pandas metadata in the file, pandas reads whole numbers as floats if their column contains null.
    like = pa.Schema.from_pandas(schema.empty_table().to_pandas(types_mapper=_nullable), preserve_index=False)
    return schema.with_metadata({"loadtest.units": json.dumps(units), "pandas": like.metadata[b"pandas"]})


def _tables(directory: Path, name: str, run: str) -> Iterator[pa.Table]:
    """Yield a table of a run in pieces of limited size."""
    info = run_directory.load(directory)
    vocabulary, before = Vocabulary(info), 0
    code, columns = _TABLES[name]
    schema = _schema(name)
    for chunk in read_chunks(directory, vocabulary):
        rows = chunk.everything.where(chunk.everything.words("row") == code).as_recorded()
        part = _Part(run, info.epoch_unix_ns, before, rows, getattr(chunk, name))
        yield pa.table([column.values(part) for column in columns], schema)
        before += chunk.columns.count


def export(directory: Path, form: str, folder: Path) -> Iterator[Path]:
    """Write each table of a run to a file, such as ``operations.csv``, and yield the file's path.

    ``form`` is ``csv`` or ``parquet``. A missing ``folder`` is created, and files of the same names are replaced.

    Raises:
        InputError: if a file cannot be written.
        RecordError: if the run cannot be read as a record.
    """
    for name in _TABLES:
        path = folder / f"{name}.{form}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with run_directory.replacing(path) as temporary:
                _write(temporary, form, _tables(directory, name, directory.name), _schema(name))
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror or error}", "Name another directory with --output."
            ) from error
        yield path


def _write(path: Path, form: str, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    if form == "parquet":
        with parquet.ParquetWriter(path, schema) as file:
            for table in _row_groups(tables):
                file.write_table(table)
        return
    # Arrow cannot write dictionary columns to CSV.
    plain = pa.schema([pa.field(each.name, pa.string() if each.type == _WORD else each.type) for each in schema])
    with csv.CSVWriter(path, plain) as file:
        for table in tables:
            file.write_table(safe_cells(table.cast(plain)))


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join tables into larger tables, because a Parquet file with many small row groups is slow to read."""
    pending: list[pa.Table] = []
    for table in tables:
        pending.append(table)
        if sum(len(each) for each in pending) >= _ROW_GROUP:
            yield pa.concat_tables(pending)
            pending = []
    if pending:
        yield pa.concat_tables(pending)
