"""The record: what is written is read again, also from a file that was torn at any byte."""

import itertools
import os
from pathlib import Path
from typing import Any, get_args

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.records import read_table

from loadtest.contract import Operation, Outcome, RequestKind
from loadtest.errors import ExitCode, RecordError
from loadtest.record.samples import (
    FILE_NAME,
    SCHEMA,
    SCHEMA_VERSION,
    Packer,
    RowType,
    Sample,
    SampleWriter,
    read_batches,
)

WORDS = {"row": get_args(RowType), "operation": tuple(Operation), "kind": tuple(RequestKind), "outcome": tuple(Outcome)}
BY_TYPE: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
}


STRIDE = 1 if os.environ.get("CI") else 7
"""Between the bytes at which a record is torn: CI tears it at each."""


def field_values(name: str) -> st.SearchStrategy[Any]:
    """Any value of a field, and null where it may be."""
    drawn = (
        st.sampled_from(WORDS[name])
        if name in WORDS
        else BY_TYPE[getattr(kind := SCHEMA.field(name).type, "value_type", kind)]
    )
    required = name in {"row", "traffic", "operation", "stage", "outcome", "worker"}
    return drawn if required else st.none() | drawn


samples = st.builds(Sample, **{name: field_values(name) for name in Sample.__struct_fields__})


def sample(number: int) -> Sample:
    """A plain operation."""
    return Sample(
        row="operation", traffic="t", operation="sync_run", stage="s", outcome="ok", arrival=number, start=number * 1000
    )


def rows(directory: Path) -> list[Sample]:
    """The record as samples again."""
    return [Sample(**row) for row in read_table(directory).to_pylist()]


@given(st.lists(st.lists(samples, max_size=4), max_size=4))
@settings(max_examples=settings.default.max_examples // 3, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, batches: list[list[Sample]]) -> None:
    """Every value of every field, null or not, in order; empty batches are nothing."""
    writer = SampleWriter(tmp_path)
    for batch in batches:
        writer.write(batch)
    writer.close()
    written = [each for batch in batches for each in batch]
    assert rows(tmp_path) == written
    assert writer.count == len(written)


def test_what_is_written_in_a_rest_of_another_write_is_read_as_well(tmp_path: Path) -> None:
    """Whoever packs in steps lets others write in between, with words of their own: both are whole afterwards."""
    writer = SampleWriter(tmp_path)
    outer = [msgspec.structs.replace(sample(number), traffic="outer", reason=f"o{number}") for number in range(3)]
    inner = [msgspec.structs.replace(sample(number), traffic="inner", reason=f"i{number}") for number in range(3, 6)]
    waiting = [[each] for each in inner]
    writer.write(outer, lambda: writer.write(waiting.pop(0)) if waiting else None)
    writer.close()
    assert rows(tmp_path) == inner + outer
    dictionaries = [batch.column("reason").dictionary.to_pylist() for batch in read_batches(tmp_path)]
    for before, after in itertools.pairwise(dictionaries):
        assert after[: len(before)] == before, "dictionaries only grow"


def test_every_write_is_in_the_file_at_once(tmp_path: Path) -> None:
    """A process that is killed after a write has lost nothing of it: another reader sees it before the stream ends."""
    writer = SampleWriter(tmp_path)
    assert rows(tmp_path) == []
    for number in range(3):
        writer.write([sample(number)])
        assert [each.arrival for each in rows(tmp_path)] == list(range(number + 1))
    writer.close()


def test_a_record_torn_at_any_byte_keeps_every_whole_batch(tmp_path: Path) -> None:
    """Cut within the last batch: the two before it are there, and the last one only when it is whole."""
    writer = SampleWriter(tmp_path)
    path = tmp_path / FILE_NAME
    sizes = []
    for batch in ([sample(0), sample(1)], [sample(2)], [sample(3), sample(4)]):
        writer.write(batch)
        sizes.append(path.stat().st_size)
    writer.close()
    whole = path.read_bytes()
    for end in sorted({*range(sizes[1], len(whole), STRIDE), sizes[2] - 1, sizes[2], len(whole)}):
        path.write_bytes(whole[:end])
        kept = read_table(tmp_path).column("arrival").to_pylist()
        assert kept == [0, 1, 2, 3, 4][: 5 if end >= sizes[2] else 3], f"cut at {end}"


def test_a_damaged_byte_costs_batches_but_no_error(tmp_path: Path) -> None:
    """What is read can be read to its last value; what cannot is left out, or the file is no record."""
    writer = SampleWriter(tmp_path)
    rows = [msgspec.structs.replace(sample(number), request_id=f"trace-{number}") for number in range(40)]
    writer.write(rows[:20])
    writer.write(rows[20:])
    writer.close()
    path = tmp_path / FILE_NAME
    whole, kept = path.read_bytes(), set()
    for place in range(0, len(whole), 31):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xA5]) + whole[place + 1 :])
        try:
            kept.add(len(read_table(tmp_path).to_pylist()))
        except RecordError:
            kept.add(0)
    assert kept == {0, 20, 40}


def test_a_record_torn_within_its_head_is_a_record_of_nothing(tmp_path: Path) -> None:
    """Killed before the schema was out, an empty file included: no samples, and no error."""
    head = SCHEMA.serialize().to_pybytes()
    for end in sorted({*range(0, len(head), STRIDE), len(head)}):
        (tmp_path / FILE_NAME).write_bytes(head[:end])
        table = read_table(tmp_path)
        assert table.schema.equals(SCHEMA)
        assert table.num_rows == 0


def stream(schema: pa.Schema, batch: pa.RecordBatch | None = None) -> bytes:
    """A whole stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        if batch is not None:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return] # pyarrow has no types here


def test_the_name_of_the_version_is_the_same_for_ever() -> None:
    """Wherever the code that writes it lies: a record of last year is read by its name."""
    assert SCHEMA.metadata == {b"loadtest.samples": str(SCHEMA_VERSION).encode()}


OTHERS = {
    "a later version": stream(SCHEMA.with_metadata({"loadtest.samples": str(SCHEMA_VERSION + 1)})),
    "an earlier version": stream(SCHEMA.with_metadata({"loadtest.samples": "1"})),
    "no version": stream(SCHEMA.remove_metadata()),
    "a version that is no text": stream(SCHEMA.with_metadata({"loadtest.samples": b"\xff"})),
    "other columns": stream(SCHEMA.remove(3)),
    "another stream": stream(pa.schema([pa.field("x", pa.int8())])),
    "text": b"row,traffic,operation\n" * 100,
    "zeros": bytes(5000),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_record_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    """An error that names the file: a record that we don't understand isn't an empty one."""
    (tmp_path / FILE_NAME).write_bytes(OTHERS[name])
    with pytest.raises(RecordError, match=FILE_NAME) as caught:
        read_table(tmp_path)
    assert caught.value.exit_code is ExitCode.INVALID


def test_a_directory_without_a_record_is_refused(tmp_path: Path) -> None:
    """It says which file is missing."""
    with pytest.raises(RecordError, match=f"{FILE_NAME} is missing"):
        read_table(tmp_path)


def test_the_mark_of_the_format_stays() -> None:
    """Records that were made before say their version by this name, wherever the code that reads them is by then."""
    assert SCHEMA.metadata == {b"loadtest.samples": b"2"}


def test_the_schema_is_the_struct() -> None:
    """Columns are the fields of a sample, in their order, each of a type that holds what the field may be."""
    assert SCHEMA.names == list(Sample.__struct_fields__)
    empty = {field.name: None for field in msgspec.structs.fields(Sample)}
    required = {"row": "operation", "traffic": "t", "operation": "sync_run", "stage": "s", "outcome": "ok", "worker": 0}
    assert Packer().pack([Sample(**(empty | required))]).num_rows == 1
