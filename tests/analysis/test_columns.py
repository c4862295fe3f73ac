"""Rows of a record: what Arrow has, in whatever batches and with whatever nulls; shared, and freed at once."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins import record_maker as maker

from loadtest.analysis import distribution
from loadtest.analysis.columns import Vocabulary, groups, tally
from loadtest.analysis.reader import Chunk
from loadtest.record.samples import Packer, Sample

WORDS = st.none() | st.sampled_from(("http_429", "job_failed", "time_out"))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "traffic": st.sampled_from(("one", "two")),
            "stage": st.sampled_from(("setup", "within", "above")),
            "outcome": st.sampled_from(("ok", "throttled", "timed_out")),
            "reason": WORDS,
            "status": st.none() | st.integers(200, 599),
            "connect_ms": st.none() | st.floats(0, 1e6),
            "connection_reused": st.none() | st.booleans(),
            "end": st.none() | st.integers(0, 2**50),
        }
    ),
    min_size=1,
    max_size=60,
)
NUMBERS = ("status", "connect_ms", "connection_reused", "end")


def chunk_of(rows: list[dict[str, Any]], pieces: int, skip: int = 0) -> Chunk:
    """The rows as requests, in a chunk of so many batches; each lies ``skip`` rows into its memory."""
    stages = [maker.stage("within", 0, 1, 1), maker.stage("above", 1, 1, 1)]
    entry = maker.plan("sync_run", stages)
    batches = []
    for part in np.array_split(np.arange(len(rows)), pieces):
        if len(part):
            own = [{"row": "request", "operation": "sync_run", "kind": "run", "start": 1, **rows[k]} for k in part]
            before = [Sample(**own[0])] * skip
            batches.append(Packer().pack([*before, *(Sample(**each) for each in own)]).slice(skip))
    return Chunk(batches, Vocabulary(maker.info({"one": entry, "two": entry})))


@given(rows=ROWS, pieces=st.integers(1, 3), skip=st.integers(0, 9))
def test_columns_are_what_was_written(rows: list[dict[str, Any]], pieces: int, skip: int) -> None:
    """Numbers with NaN for null, words by the book with -1 for null, whatever the batches and where they begin."""
    chunk = chunk_of(rows, pieces, skip)
    for name in NUMBERS:
        wanted = [np.nan if row[name] is None else float(row[name]) for row in rows]
        np.testing.assert_array_equal(chunk.requests.as_recorded().floats(name), wanted)
    known = chunk.vocabulary.words["reason"]
    found = [known[code] if code >= 0 else None for code in chunk.requests.as_recorded().words("reason").tolist()]
    assert found == [row["reason"] for row in rows]


@given(rows=ROWS, pieces=st.integers(1, 3))
def test_cells_part_the_rows(rows: list[dict[str, Any]], pieces: int) -> None:
    """Each row is among those of its entry and stage, in the order of the record; the set-up's among none."""
    chunk = chunk_of(rows, pieces)
    named = {cell: (name, stage.name) for cell, (name, stage, *_) in enumerate(chunk.vocabulary.stage_keys)}
    found = {named[cell]: mine.places.tolist() for cell, mine in chunk.requests.by_stage}
    wanted: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        if row["stage"] != "setup":
            wanted.setdefault((row["traffic"], row["stage"]), []).append(place)
    assert found == wanted


@given(rows=ROWS)
def test_parts_hold_what_their_name_says(rows: list[dict[str, Any]]) -> None:
    """Whoever asks for the same part gets the same rows; where it is all of them, these themselves."""
    requests = chunk_of(rows, 1).requests.as_recorded()
    outcomes = [row["outcome"] for row in rows]
    assert requests.ok.places.tolist() == [k for k, word in enumerate(outcomes) if word == "ok"]
    assert requests.answered.places.tolist() == [k for k, word in enumerate(outcomes) if word != "throttled"]
    assert requests.answered is requests.answered
    assert (requests.ok is requests) == (set(outcomes) == {"ok"})
    assert requests.without_mistakes is requests


def test_rows_are_freed_as_soon_as_nobody_looks_at_them() -> None:
    """No part that is the whole holds it: chunks that waited for the garbage collector would fill the memory."""
    row = {"traffic": "one", "stage": "within", "outcome": "ok"}
    chunk = chunk_of([row] * 3, 1)
    requests = chunk.requests
    assert requests.without_mistakes.answered.ok is requests
    assert [mine for _, mine in (*requests.by_stage, *requests.by_kind)] == [requests] * 2
    held = weakref.ref(requests)
    gc.disable()
    try:
        del chunk, requests
        assert held() is None
    finally:
        gc.enable()


@given(st.lists(st.integers(-3, 40), max_size=200), st.booleans())
def test_groups_and_tallies_agree_with_counting(codes: list[int], many: bool) -> None:
    """However many distinct codes there are; a tally leaves out those below zero."""
    given_codes = np.array(codes if many else [code % 3 for code in codes], np.int64)
    found = {code: np.arange(len(given_codes)) if at is None else at for code, at in groups(given_codes)}
    assert {code: at.tolist() for code, at in found.items()} == {
        code: np.flatnonzero(given_codes == code).tolist() for code in set(given_codes.tolist())
    }
    counts = np.ones(41, np.int64)
    tally(counts, given_codes)
    assert (counts - 1).tolist() == [int((given_codes == code).sum()) for code in range(41)]


@given(st.lists(st.floats(-1, 6) | st.just(np.nan), max_size=50), st.integers(0, 8))
def test_times_are_placed_in_their_bins(seconds: list[float], count: int) -> None:
    """A bin holds its lower edge and not its upper one; what is outside of all, or unknown, is in none."""
    cuts = np.linspace(0, 4, count + 1) if count else np.zeros(0)
    wanted = [next((k for k in range(count) if cuts[k] <= second < cuts[k + 1]), -1) for second in seconds]
    assert distribution.place(np.array(seconds, float), cuts).tolist() == wanted


@given(st.integers(1, 9), st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_thinning_does_not_mind_the_pieces(step: int, pieces: list[int]) -> None:
    """Every n-th of all events is kept, however they come."""
    kept, before = [], 0
    for events in pieces:
        kept += (distribution.every(step, before, events) + before).tolist()
        before += events
    assert kept == list(range(0, before, step))


def test_texts_are_looked_up_across_batches() -> None:
    """A place beyond all of them is an error of ours."""
    row = {"traffic": "one", "stage": "within", "outcome": "ok"}
    rows = [{**row, "request_id": f"r{k}"} for k in range(5)]
    chunk = chunk_of(rows, 2)
    assert [chunk.requests.text("request_id", k) for k in range(5)] == [f"r{k}" for k in range(5)]
    with pytest.raises(IndexError):
        chunk.columns.text("request_id", 5)
