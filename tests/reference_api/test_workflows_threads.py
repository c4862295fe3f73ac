"""Plain functions in threads: bounded, and stopped without ever hitting anything else."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from plugins.processes import until_async

from loadtest.reference_api import cancelled
from loadtest.reference_api.threads import StoppedError, Threads


def with_threads(size: int, use: Any) -> Any:
    """Run a coroutine function with a pool of its own, which must have nothing left to stop at its end."""

    async def run() -> Any:
        threads = Threads(size)
        try:
            return await use(threads)
        finally:
            assert await threads.close() == 0

    return asyncio.run(run())


async def stopped(waiting: Coroutine[Any, Any, Any], begun: threading.Event) -> None:
    """Begin to wait for something, and cancel that as soon as it has begun."""
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    await until_async(begun.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_results_and_errors_come_back() -> None:
    """A call gives what it gives, and raises what it raises, whatever that is."""

    def leave() -> None:
        raise SystemExit(3)

    async def use(threads: Threads) -> None:
        assert await threads.run(lambda: 7) == 7
        with pytest.raises(SystemExit):
            await threads.run(leave)
        assert await threads.run(threading.get_ident) != threading.get_ident()

    with_threads(1, use)


def test_no_more_than_the_pools_size_execute_at_once() -> None:
    """Of 40 calls into 3 threads, 3 are under way at most, and at some time 3 are."""
    now, most, lock = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    async def use(threads: Threads) -> None:
        await asyncio.gather(*(threads.run(call) for _ in range(40)))

    with_threads(3, use)
    assert most == 3


def test_one_that_never_asks_is_stopped_where_it_is() -> None:
    """It gets an exception that `except Exception` lets through; its `finally` runs; the thread is free again."""
    begun, seen = threading.Event(), []

    def call() -> None:
        try:
            while True:
                begun.set()
                try:
                    sum(range(100))
                except Exception:  # noqa: BLE001 -- what a careless function does
                    seen.append("caught")
        except BaseException as error:
            seen.append(type(error))
            raise
        finally:
            seen.append("finally")

    async def use(threads: Threads) -> None:
        await stopped(threads.run(call), begun)
        assert await threads.run(lambda: "free") == "free"

    with_threads(1, use)
    assert seen == [StoppedError, "finally"]


def test_one_that_asks_ends_by_itself() -> None:
    """Whoever has asked whether anybody waits gets its answer, and no exception while it tidies up."""
    begun, seen = threading.Event(), []

    def call() -> None:
        try:
            assert not cancelled()
            begun.set()
            while not cancelled():
                pass
            for number in range(1000):
                seen.append(number)  # noqa: PERF402 -- many bytecodes are the point
        except BaseException as error:
            seen.append(error)
            raise

    async def use(threads: Threads) -> None:
        await stopped(threads.run(call), begun)
        assert await threads.run(cancelled) is False

    with_threads(1, use)
    assert seen == list(range(1000))
    assert cancelled() is False


def test_one_that_asked_and_goes_on_is_stopped_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The courtesy ends after a while."""
    monkeypatch.setattr("loadtest.reference_api.threads.COURTESY", 0.05)
    begun = threading.Event()

    def call() -> None:
        while not cancelled():
            begun.set()
        while True:
            pass

    async def use(threads: Threads) -> str:
        await stopped(threads.run(call), begun)
        return await threads.run(lambda: "free")

    assert with_threads(1, use) == "free"


def test_one_that_swallows_its_exception_goes_on_but_harms_nobody() -> None:
    """It keeps its thread until it returns; what comes next there is as good as new."""
    begun, go, seen = threading.Event(), threading.Event(), []

    def call() -> None:
        try:
            while True:
                begun.set()
        except BaseException as error:  # noqa: BLE001 -- the point of this test
            seen.append(type(error))
        go.wait(20)
        seen.append("went on")

    async def use(threads: Threads) -> str:
        await stopped(threads.run(call), begun)
        go.set()
        return await threads.run(lambda: "free")

    assert with_threads(1, use) == "free"
    assert seen == [StoppedError, "went on"]


def test_one_that_waits_for_a_thread_never_begins() -> None:
    """Cancelled before a thread was free, it isn't executed when there is one."""
    begun, go, seen = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        go.wait(20)

    async def use(threads: Threads) -> None:
        running = asyncio.ensure_future(threads.run(first))
        await until_async(begun.is_set)
        await stopped(threads.run(lambda: seen.append("second")), begun)
        go.set()
        await running
        await threads.run(lambda: seen.append("third"))

    with_threads(1, use)
    assert seen == ["third"]
