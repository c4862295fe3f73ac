"""Executing workflows: what comes out, what their mistakes look like, and plain functions in threads."""

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest
from plugins.processes import until_async

from loadtest.reference_api import WorkflowFailedError, cancelled
from loadtest.reference_api.execution import Execution, ExecutionOutcome, Threads, Workflow


class Size(msgspec.Struct):
    width: int
    height: int = 1


def make(function: Any, threads: Threads) -> Workflow:
    return Workflow("it", lambda _: function, None if inspect.iscoroutinefunction(function) else threads)


def ended(function: Any) -> ExecutionOutcome:
    """How a workflow ends, executed as a server would."""

    async def run() -> ExecutionOutcome:
        threads = Threads(1)
        workflow = make(function, threads)
        outcome = await Execution(workflow, workflow.call({})).run()
        assert await threads.close() == 0
        return outcome

    return asyncio.run(run())


def test_a_result_is_an_object() -> None:
    """A dict, a Struct or a dataclass; anything else fails, and is not wrapped."""

    async def struct() -> Size:
        return Size(3)

    def plain() -> dict[str, Any]:
        return {"a": [1]}

    assert ended(struct).result == b'{"width":3,"height":1}'
    assert ended(plain).result == b'{"a":[1]}'


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ([1], "The result is of type list, not a JSON object"),
        (None, "The result is of type NoneType, not a JSON object"),
        ("{}", "The result is of type str, not a JSON object"),
        ({"a": object()}, "The result cannot be written as JSON: "),
        ({"a": "\ud800"}, "The result cannot be written as JSON: "),
        ({(1, 2): 3}, "The result cannot be written as JSON: "),
    ],
)
def test_another_result_fails_in_words(result: Any, says: str) -> None:
    """The caller is told what came instead, in a thread and on the loop."""

    def plain() -> Any:
        return result

    async def waiting() -> Any:
        return result

    for function in (plain, waiting):
        outcome = ended(function)
        assert outcome.result is None
        assert str(outcome.error).startswith(says)
        assert not outcome.internal


def test_a_result_that_contains_itself_fails() -> None:
    """There is no end to writing it."""
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    assert ended(lambda: loop).error == "The result is nested too deeply"


def fails() -> Any:
    raise WorkflowFailedError("no luck")


async def fails_waiting() -> Any:
    await asyncio.sleep(0)
    raise WorkflowFailedError("no luck")


@pytest.mark.parametrize("function", [fails, fails_waiting])
def test_a_failure_is_told_to_the_caller(function: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With its message, and not in the log."""
    outcome = ended(function)
    assert (outcome.result, outcome.error, outcome.internal) == (None, "no luck", False)
    assert not caplog.records


def fails_strangely() -> Any:
    raise WorkflowFailedError("no such file: \udcff")


async def fails_strangely_waiting() -> Any:
    raise WorkflowFailedError("no such file: \udcff")


@pytest.mark.parametrize("function", [fails_strangely, fails_strangely_waiting])
def test_a_message_that_is_no_text_is_told_all_the_same(function: Any) -> None:
    """What UTF-8 can't carry, such as a byte of a file's name, is escaped: the answer has to be JSON."""
    assert ended(function).error == "no such file: \\udcff"


def breaks() -> Any:
    raise ZeroDivisionError("the secret of the house")


def leaves() -> Any:
    raise SystemExit("the secret of the house")


async def breaks_waiting() -> Any:
    await asyncio.sleep(0)
    raise StopAsyncIteration("the secret of the house")


async def awaits_what_was_cancelled() -> Any:
    never = asyncio.get_running_loop().create_future()
    never.cancel("the secret of the house")
    await never


async def leaves_waiting() -> Any:
    await asyncio.sleep(0)
    raise SystemExit("the secret of the house")


@pytest.mark.parametrize("function", [breaks, leaves, breaks_waiting, leaves_waiting, awaits_what_was_cancelled])
def test_a_break_is_for_the_log_alone(function: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The caller learns nothing of it; whoever runs the server gets the traceback."""
    outcome = ended(function)
    assert (outcome.result, outcome.error, outcome.internal) == (None, "Internal error", True)
    (record,) = caplog.records
    text = logging.Formatter().format(record)
    assert text.startswith("workflow it broke\nTraceback")
    assert function.__name__ in text
    assert "the secret of the house" in text


def test_execution_time_is_the_functions_own() -> None:
    """Waiting for a thread is not in it: in one thread, executions can't add up to more than the time that passed."""

    async def run() -> tuple[list[ExecutionOutcome], float]:
        threads = Threads(1)
        workflow = make(nap, threads)
        start = time.perf_counter()
        outcomes = await asyncio.gather(*(Execution(workflow, workflow.call({})).run() for _ in range(5)))
        passed = time.perf_counter() - start
        await threads.close()
        return outcomes, passed * 1000

    outcomes, passed = asyncio.run(run())
    assert all(outcome.milliseconds >= 20 for outcome in outcomes)
    assert sum(outcome.milliseconds for outcome in outcomes) <= passed


def nap() -> dict[str, float]:
    time.sleep(0.02)
    return {}


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


@pytest.mark.parametrize("ends_by", ["returning", "raising"])
def test_one_that_is_not_waited_for_is_told_and_harms_nobody(ends_by: str) -> None:
    """It keeps its thread until it ends, however it does; what comes next there is not told."""
    begun, seen = threading.Event(), []

    def call() -> None:
        assert not cancelled()
        begun.set()
        while not cancelled():
            pass
        seen.append("told")
        if ends_by == "raising":
            raise ValueError

    async def use(threads: Threads) -> None:
        await stopped(threads.run(call), begun)
        assert await threads.run(cancelled) is False

    with_threads(1, use)
    assert seen == ["told"]
    assert cancelled() is False


def test_one_that_never_asks_keeps_its_thread_until_it_returns() -> None:
    """Whoever waited is free at once; the next call waits for the thread."""
    begun, go, seen = threading.Event(), threading.Event(), []

    def call() -> None:
        begun.set()
        go.wait(20)
        seen.append("went on")

    async def use(threads: Threads) -> None:
        await stopped(threads.run(call), begun)
        assert threads.busy == 1
        go.set()
        await threads.run(lambda: seen.append("next"))

    with_threads(1, use)
    assert seen == ["went on", "next"]


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
