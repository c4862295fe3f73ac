"""A stop that comes at whatever time, and hits nothing but the piece of work that it is meant for."""

import asyncio
import ctypes
import random
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from loadtest.reference_api import cancelled, threads
from loadtest.reference_api.authoring import here
from loadtest.reference_api.threads import StoppedError, Threads


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let threads take turns at nearly every bytecode, or a stop would hardly ever come in the middle of anything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("asks", [False, True])
def test_stops_that_race_with_the_end_hit_nothing_else(
    asks: bool,
    quick_switches: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """More than a thousand short calls in the same threads, half of them stopped at any time up to their end and later.

    Whoever was not stopped gets its own result, and no call sees the exception of another; every thread of the pool is
    alive and free afterwards; the pool's own code was not hit, which it would log.
    """
    count, size, longest = 1200, 2, 5_000 if asks else 30_000
    rng = random.Random(7)
    begun: set[int] = set()
    hit: list[int] = []

    def call(number: int, rounds: int) -> int:
        begun.add(number)
        try:
            for _ in range(rounds):
                if asks and cancelled():
                    return -1
        except StoppedError:
            hit.append(number)
            raise
        return number

    async def one(pool: Threads, number: int) -> tuple[int, bool, int | None]:
        doomed = rng.random() < 0.5
        task = asyncio.ensure_future(pool.run(partial(call, number, rng.randrange(longest))))
        await asyncio.sleep(0)
        if doomed:
            late = time.perf_counter() + rng.random() * 300e-6
            while number not in begun or time.perf_counter() < late:
                time.sleep(0)  # noqa: ASYNC251 -- the loop has to be awake to stop something in the very moment
            task.cancel()
        try:
            return number, doomed, await task
        except asyncio.CancelledError:
            return number, doomed, None

    async def use() -> list[tuple[int, bool, int | None]]:
        pool = Threads(size)
        done: list[tuple[int, bool, int | None]] = []
        for number in range(count):
            done.append(await one(pool, number))  # noqa: PERF401 -- one after the other, so that each stop is timely
        all_there = threading.Barrier(size + 1)
        last = [asyncio.ensure_future(pool.run(all_there.wait)) for _ in range(size)]
        await asyncio.to_thread(all_there.wait, 20)
        await asyncio.gather(*last)
        assert await pool.close() == 0
        return done

    done = asyncio.run(use())
    assert [number for number, _, _ in done] == list(range(count))
    assert all(result == number for number, doomed, result in done if not doomed)
    assert all(result in {number, None, -1} for number, _, result in done)
    assert not {number for number, doomed, _ in done if not doomed} & set(hit)
    assert len(hit) == len(set(hit))
    assert hit or asks, "no stop came in time for this to mean anything"
    assert not caplog.records


@pytest.mark.parametrize("ends_by", ["returning", "raising", "raising StoppedError itself"])
@pytest.mark.parametrize("gap", [0, 1, 2, 7, 40, 300])
def test_a_stop_at_any_bytecode_stays_within(ends_by: str, gap: int) -> None:
    """Chance hardly ever hits the few bytecodes that matter, so this goes through all: there is a stop at each.

    Wherever it comes, from before the call to after it, and however long there is between taking the claim and
    raising: nothing is raised out of the piece of work, nothing is left to be raised later, and the loop is told.
    """
    loop = asyncio.new_event_loop()
    pool = Threads(1)

    def call() -> int:
        number = abs(-7)
        if ends_by == "raising":
            raise ValueError
        if ends_by != "returning":
            raise StoppedError
        return number

    def attempt(at: int) -> tuple[bool, int]:
        piece = threads._Piece(call, loop, pool)
        steps, thread = 0, 0

        def trace(frame: Any, event: str, _argument: Any) -> Any:
            nonlocal steps, thread
            if frame.f_code.co_filename not in {threads.__file__, __file__}:
                return None
            frame.f_trace_opcodes = True
            if event != "opcode":
                return trace
            steps += 1
            if steps == at and piece._claim:  # what `stop` does, with time between its steps
                piece.stopped = True
                thread = piece._claim.pop()
            if steps == at + gap and thread:
                piece._sent = True
                # By an iterator that calls it, since after a call of our own it would be raised here already.
                for _ in map(threads._raise_in, [ctypes.c_ulong(thread)], [ctypes.py_object(StoppedError)]):
                    return trace
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            piece()
        finally:
            sys.settrace(before)
        assert piece._sent or not thread, "it ended while an exception was on its way"
        for _ in range(20):  # what is still to be raised would be by now
            abs(-1)
        assert here.work is None
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert piece.future.done()
        if not piece.future.cancelled():
            assert piece.future.exception() is not None or piece.future.result() == 7
        return steps < at, steps

    at, over = 1, False
    while not over:
        over, steps = attempt(at)
        at += 1
    assert steps > 40, "too few bytecodes were looked at for this to mean anything"
    loop.close()
