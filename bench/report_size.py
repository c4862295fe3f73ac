"""Time, memory and exactness of reports on records of any size, beside DuckDB's exact quantiles of the same columns.

Records are generated with a fixed seed. They have two operations in each of three stages, and the requests of each.
Run: ``python bench/report_size.py``. ``--samples 100000000`` makes the largest supported record. It needs 18 GiB of
disk, or 24 GiB with ``--ids``, which adds the ids that real runs record. DuckDB keeps every value: if memory is short,
add ``--no-peer``. Both passes take turns and are measured in seconds and CPU seconds. DuckDB uses every core, and the
analysis uses one core. Exits with 1 if a bar is missed.

Short form: one report instead of three. The record has ten million samples in both forms.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from forms import Options, judged

from loadtest.record import run_directory, samples
from loadtest.record.run_info import RunInfo, ScenarioInfo, StagePlan, TargetInfo, TrafficPlan
from loadtest.units import Limit

ENTRIES = {"runs": "sync_run", "lookups": "retrieval"}
KINDS = {"sync_run": "run", "retrieval": "retrieve"}
STAGES = (("warmup", 0.1), ("within", 0.5), ("above", 0.4))
BATCH = 1 << 16
RATE = 20_000.0
"""Arrivals per second of each entry."""
MEMORY_MIB = 1024


def word(codes: Any, words: list[str]) -> pa.Array:
    """Return a column of words."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(words, pa.string()))


def plan(arrivals: int) -> RunInfo:
    """Return the run.json of a record with this number of arrivals in each entry."""
    seconds = arrivals / RATE
    traffic = {}
    for name, operation in ENTRIES.items():
        stages, start = [], 0.0
        for stage, share in STAGES:
            stages.append(StagePlan(name=stage, start_s=start, duration_s=share * seconds, rate=RATE, rate_to=RATE,
                                    warmup=stage == "warmup"))  # fmt: skip
            start += share * seconds
        traffic[name] = TrafficPlan(operation=operation, workflow="sleep", arrivals="even", users=50,
                                    offered=arrivals, stages=stages)  # fmt: skip
    limits = {name: Limit(1_000_000, 60.0) for name in ("sync_run", "async_submit", "retrieval")}
    thresholds = [{"require": "response_time.p95 < 250ms", "traffic": "runs", "stage": "within"}]
    return RunInfo(
        id="20260101T000000Z-generated-000000",
        scenario=ScenarioInfo(name="generated", title="Generated", hash="0" * 12, effective={"threshold": thresholds}),
        seed=1, target=TargetInfo(url="http://127.0.0.1:1", embedded=True, limits=limits), keys=1, workers=1,
        traffic=traffic, versions={}, machine={}, command=["generated"], started="2026-01-01T00:00:00Z",
        epoch_unix_ns=1_767_225_600_000_000_000, elapsed_s=seconds, end="finished", samples=arrivals * 4,
    )  # fmt: skip


def batches(arrivals: int, *, ids: bool) -> Iterator[pa.RecordBatch]:
    """Yield every batch of the record. Each arrival has a request and then an operation."""
    rng = np.random.default_rng(1)
    edges = np.cumsum([share for _, share in STAGES])[:-1] * arrivals
    for begin in range(0, arrivals, BATCH // 4):
        number = np.arange(begin, min(begin + BATCH // 4, arrivals))
        for name, operation in ENTRIES.items():
            named = ids_of(list(ENTRIES).index(name), operation, number) if ids else {}
            made = one(rng, name, operation, number, np.searchsorted(edges, number, side="right"))
            for column, values in named.items():
                made = made.set_column(samples.SCHEMA.get_field_index(column), samples.SCHEMA.field(column), values)
            yield made


def words_of(name: str, operation: str, stage: Any, refused: Any, is_request: Any) -> dict[str, Any]:
    """Return the columns of words in a batch."""
    none = np.zeros(len(stage), np.int32)
    words = {
        "row": (~is_request, ["request", "operation"]), "traffic": (none, [name]), "operation": (none, [operation]),
        "stage": (stage, [s for s, _ in STAGES]), "outcome": (refused, ["ok", "throttled"]),
    }  # fmt: skip
    both = {column: word(np.asarray(codes).astype(np.int32), known) for column, (codes, known) in words.items()}
    one_word = {"kind": (~is_request, KINDS[operation]), "reason": (~refused, "throttled")}
    if operation == "retrieval":
        one_word["job_state"] = (refused, "completed")
    for column, (missing, known) in one_word.items():
        both[column] = pa.DictionaryArray.from_arrays(pa.array(none, mask=missing), pa.array([known]))
    return both


def ids_of(entry: int, operation: str, number: Any) -> dict[str, pa.Array]:
    """Return the columns of ids: ``traceparent`` of requests, trace id of operations, and job of retrievals."""
    trace = np.char.add(f"deba1aea3f07b3be{entry:04x}", in_hex(number, 12))
    parent = np.char.add(np.char.add("00-", trace), np.char.add(np.char.add("-", in_hex(number, 16)), "-01"))
    found = {"request_id": pa.array(np.stack([parent, trace.astype(parent.dtype)], axis=1).reshape(-1))}
    if operation == "retrieval":
        jobs = np.char.add(in_hex(number * 2_654_435_761, 16), in_hex(number, 8))
        found["job_id"] = pa.array(np.repeat(jobs, 2))
    return found


def in_hex(numbers: Any, digits: int) -> Any:
    """Return numbers as text with this number of hexadecimal digits."""
    shifts = np.arange(4 * digits - 4, -1, -4, dtype=np.uint64)
    places = (np.asarray(numbers, np.uint64)[:, None] >> shifts) & np.uint64(15)
    letters = np.frombuffer(b"0123456789abcdef", np.uint8).astype(np.uint32)[places.astype(np.intp)]
    return letters.view(f"<U{digits}").reshape(-1)


def one(rng: np.random.Generator, name: str, operation: str, number: Any, stage: Any) -> pa.RecordBatch:
    """Return a batch of one entry."""
    n = len(number)
    intended = (number / RATE * 1e9).astype(np.int64)
    start = intended + rng.integers(20_000, 400_000, n)
    service = (rng.lognormal(np.log(2e7), 0.7, n)).astype(np.int64)
    refused = (rng.random(n) < 0.1) & (stage == 2)
    service = np.where(refused, 500_000, service)
    execution = np.where(refused, np.nan, service / 1e6 * rng.uniform(0.5, 0.99, n))
    is_request = np.tile([True, False], n)
    twice = np.repeat(np.arange(n), 2)
    both = words_of(name, operation, stage[twice], refused[twice], is_request)
    both["arrival"] = pa.array(number[twice], mask=is_request)
    both["parent_arrival"] = pa.array(number[twice], mask=~is_request)
    times = {"intended_start": intended, "start": start, "end": start + service}
    both["first_byte"] = pa.array((start + (service * 0.8).astype(np.int64))[twice], mask=~is_request)
    new = rng.random(n) < 0.02
    both["connection_reused"] = pa.array(~new[twice], mask=~is_request)
    both["connect_ms"] = pa.array(rng.lognormal(0, 0.5, n)[twice], mask=~is_request | ~new[twice])
    both["bytes_received"] = pa.array(np.full(2 * n, 180), mask=~is_request)
    both |= {column: pa.array(values[twice]) for column, values in times.items()}
    both["attempt"] = pa.array(np.ones(2 * n, np.int32))
    both["user_free"] = pa.array(intended[twice] - 1000, mask=is_request)
    both["status"] = pa.array(np.where(refused, 429, 200)[twice].astype(np.int32))
    both["execution_time_ms"] = pa.array(execution[twice], from_pandas=True)
    both["key_index"] = pa.array(np.zeros(2 * n, np.int32))
    both["worker"] = pa.array(np.zeros(2 * n, np.int32))
    unknown = is_request | refused[twice]
    both["accepted_start"] = pa.array(start[twice], mask=unknown)
    both["accepted_end"] = pa.array((start + service)[twice], mask=unknown)
    columns = [both.get(each.name, pa.nulls(2 * n, each.type)) for each in samples.SCHEMA]
    return pa.record_batch(columns, schema=samples.SCHEMA)


def generate(directory: Path, count: int, *, ids: bool) -> None:
    """Write a record of ``count`` samples."""
    arrivals = count // 4
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=False)
    with (directory / samples.FILE_NAME).open("wb") as file:
        stream = pa.ipc.new_stream(file, samples.SCHEMA, options=options)
        for batch in batches(arrivals, ids=ids):
            stream.write_batch(batch)
        stream.close()
    run_directory.save(plan(arrivals), directory)


QUERY = """
SELECT traffic, stage, "row" AS kind, count(*) AS n, count(*) FILTER (status = 429) AS throttled,
  quantile_disc((first_byte - start) / 1e6, [0.5, 0.9, 0.95, 0.99]) FILTER (outcome = 'ok') AS first,
  quantile_disc(connect_ms, [0.5, 0.9, 0.95, 0.99]) FILTER (outcome = 'ok') AS connect,
  quantile_disc(("end" - start) / 1e6, [0.5, 0.9, 0.95, 0.99]) FILTER (outcome = 'ok' AND connection_reused) AS reused,
  quantile_disc(("end" - start) / 1e6, [0.5, 0.9, 0.95, 0.99]) FILTER (outcome = 'ok' AND NOT connection_reused) AS new,
  quantile_disc((accepted_end - accepted_start) / 1e6 - execution_time_ms, [0.5, 0.9, 0.95, 0.99])
    FILTER (outcome = 'ok') AS overhead,
  quantile_disc(("end" - intended_start) / 1e6, [0.5, 0.9, 0.95, 0.99]) FILTER (outcome = 'ok') AS response,
  quantile_disc(("end" - start) / 1e6, [0.5, 0.9, 0.95, 0.99]) FILTER (outcome = 'ok') AS service,
  quantile_disc(execution_time_ms, [0.5, 0.9, 0.95, 0.99]) FILTER (outcome = 'ok') AS execution,
  quantile_disc((start - intended_start) / 1e6, [0.5, 0.9, 0.95, 0.99]) AS lag,
  quantile_disc((start - greatest(intended_start, user_free)) / 1e6, [0.5, 0.9, 0.95, 0.99]) AS dispatch,
  sum(execution_time_ms) FILTER (outcome = 'ok') AS spent
FROM record GROUP BY ALL
"""


Spent = tuple[float, float]
"""Seconds, and CPU seconds of all threads."""


def ask_duckdb(directory: Path) -> tuple[Spent, dict[tuple[str, str, str], dict[str, Any]]]:
    """Return DuckDB's exact figures for the same columns and groups, and the time that they took."""
    begin, cpu = time.perf_counter(), time.process_time()
    connection = duckdb.connect()
    with pa.memory_map(str(directory / samples.FILE_NAME)) as file:
        record = pa.ipc.open_stream(file)  # noqa: F841 -- DuckDB finds it by its name
        found = connection.execute(QUERY)
        names = [each[0] for each in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    spent = time.perf_counter() - begin, time.process_time() - cpu
    return spent, {(r["traffic"], r["stage"], r["kind"]): r for r in rows}


MEASURE = """
import json, sys, time
from pathlib import Path
from loadtest.analysis.run_record import load_record
from loadtest.analysis.results import TIMES
from loadtest.units import Limit
begin, cpu = time.perf_counter(), time.process_time()
record = load_record(Path(sys.argv[1]))
stages = {}
for index, (name, stage, *_) in enumerate(record.vocabulary.stage_keys):
    refused = [n for cell, n in record.counts.of_requests([index]).items() if cell.status == 429]
    block = {"n": record.counts.of_operations([index]).total(), "throttled": sum(refused)}
    for metric in TIMES:
        one = record.times[metric].get([index])
        if one.n:
            ranks = [max(1, -(-one.n * q // 100)) for q in (50, 90, 95, 99)]
            block[metric] = [*one.at(ranks).tolist(), one.total]
    stages[f"{name} {stage.name}"] = block
spent = time.perf_counter() - begin, time.process_time() - cpu
print(json.dumps({"spent": spent, "stages": stages}))
"""


def compare(found: dict[str, Any], exact: dict[tuple[str, str, str], dict[str, Any]]) -> tuple[bool, float]:
    """Return whether counts and sums are equal, and the largest relative error of a percentile."""
    equal, worst = True, 0.0
    metrics = {"response_time_ms": ("operation", "response"), "service_time_ms": ("request", "service"),
               "execution_time_ms": ("operation", "execution"), "start_lag_ms": ("operation", "lag"),
               "dispatch_lag_ms": ("operation", "dispatch"), "first_byte_ms": ("request", "first"),
               "connect_ms": ("request", "connect"), "service_time_reused_ms": ("request", "reused"),
               "service_time_new_ms": ("request", "new")}  # fmt: skip
    for label, block in found.items():
        name, stage = label.split(" ")
        mine = exact[name, stage, "operation"]
        equal &= block["n"] == mine["n"] and block["throttled"] == exact[name, stage, "request"]["throttled"]
        if name == "runs":  # a retrieval has no overhead
            metrics["overhead_ms"] = ("operation", "overhead")
        else:
            metrics.pop("overhead_ms", None)
        equal &= abs(block["execution_time_ms"][4] - mine["spent"]) <= 1e-9 * mine["spent"]
        for metric, (kind, column) in metrics.items():
            for ours, theirs in zip(block[metric][:4], exact[name, stage, kind][column], strict=True):
                worst = max(worst, abs(ours - theirs) / theirs)
    return equal, worst


def measured(*command: str) -> tuple[float, float, str]:
    """Run a Python process. Return its seconds, its maximum private memory in MiB, and its output."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    most = 0.0
    while process.poll() is None:
        most = max(most, private(process.pid))
        time.sleep(0.02)
    return time.perf_counter() - begin, most, process.stdout.read() if process.stdout else ""


def private(pid: int) -> float:
    """Return a process's anonymous memory in MiB, without the pages of mapped files."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("RssAnon")) / 1024


def passes(directory: Path, rounds: int, *, peer: bool) -> bool:
    """Measure the pass over the record and DuckDB in turns. Print both, and return whether the bars hold."""
    ours: list[Spent] = []
    theirs: list[Spent] = []
    for _ in range(rounds):
        _, most, printed = measured("-c", MEASURE, str(directory))
        found = json.loads(printed)
        ours.append(found["spent"])
        if peer:
            spent, exact = ask_duckdb(directory)
            theirs.append(spent)
    seconds, cpu = (median(each) for each in zip(*ours, strict=True))
    print(f"pass over the record       {seconds:8.2f} s {cpu:8.2f} s of CPU   private memory {most:5.0f} MiB")
    if not peer:
        return True
    their_seconds, their_cpu = (median(each) for each in zip(*theirs, strict=True))
    print(f"DuckDB's exact quantiles   {their_seconds:8.2f} s {their_cpu:8.2f} s of CPU")
    ratio = seconds / their_seconds
    print(f"ratio                      {ratio:8.2f}   {cpu / their_cpu:8.2f}")
    equal, worst = compare(found["stages"], exact)
    exact_enough = judged(f"percentiles off by at most {worst:.2%}", "≤ 0.5 %", ok=worst <= 0.005)
    exact_enough &= judged("counts and sums like DuckDB's", "all", ok=equal)
    return judged(f"{ratio:.2f} times DuckDB's seconds", "≤ 1", ok=ratio <= 1) & exact_enough


def main() -> int:
    """Generate, measure, compare and print. Return 1 if a bar is missed."""
    parser = Options(__doc__)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--ids", action="store_true", help="with the ids that real runs record")
    parser.add_argument("--rounds", type=int, default=3, help="how often both passes are measured (the median counts)")
    parser.add_size("--reports", 1, 3, "how often the report is made (the median counts)")
    parser.add_argument("--no-peer", action="store_true", help="leave DuckDB out")
    arguments = parser.begin()
    count = arguments.samples
    # 12 s for 10 million, 60 s for 100 million.
    wanted = 12.0 + (count - 10_000_000) * 48.0 / 90_000_000
    directory = Path(tempfile.mkdtemp(prefix="report-size-")) / "run"
    directory.mkdir()
    try:
        generate(directory, count, ids=arguments.ids)
        size = (directory / samples.FILE_NAME).stat().st_size / 2**30
        print(f"{count:,} samples, {size:.2f} GiB")
        held = passes(directory, arguments.rounds, peer=not arguments.no_peer)
        reports = [measured("-m", "loadtest.report", str(directory))[:2] for _ in range(arguments.reports)]
        seconds, most = (median(each) for each in zip(*reports, strict=True))
        held &= judged(f"full report {seconds:.2f} s", f"≤ {wanted:.1f} s", ok=seconds <= wanted)
        return not judged(f"its private memory {most:.0f} MiB", f"≤ {MEMORY_MIB} MiB", ok=most <= MEMORY_MIB) & held
    finally:
        shutil.rmtree(directory.parent)


if __name__ == "__main__":
    sys.exit(main())
