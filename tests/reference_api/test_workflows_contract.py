"""A function's signature and result as a contract: what is let in, what comes out, what its mistakes look like."""

import asyncio
import logging
import time
from typing import Annotated, Any, Literal

import msgspec
import pytest

from loadtest.reference_api import WorkflowFailedError
from loadtest.reference_api.answers import ApiError
from loadtest.reference_api.execution import Outcome, execute
from loadtest.reference_api.signature import read_signature, read_whole
from loadtest.reference_api.threads import Threads
from loadtest.reference_api.workflows import Workflow, is_async


class Size(msgspec.Struct):
    width: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    height: int = 1


def image(
    url: str,
    size: Size,
    quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 80,
    *,
    mode: Literal["fit", "fill"] = "fit",
    tags: list[str] = ["a"],  # noqa: B006 -- as careless authors write
    scale: float | None = None,
    meta: dict[str, int] | None = None,
    anything=None,
) -> dict[str, Any]: ...


def counts(total: int, **parts: int) -> dict[str, Any]: ...


def free(**parameters) -> dict[str, Any]: ...


def make(function: Any, threads: Threads | None = None, *, unknown: bool = False) -> Workflow:
    return Workflow("it", read_signature(function, unknown=unknown), function, None if is_async(function) else threads)


def ended(function: Any, **parameters: Any) -> Outcome:
    """How a workflow ends, executed as a server would."""

    async def run() -> Outcome:
        threads = Threads(1)
        workflow = make(function, threads)
        outcome = await execute(workflow, workflow.parse(parameters))
        assert await threads.close() == 0
        return outcome

    return asyncio.run(run())


def test_parameters_arrive_converted() -> None:
    """Structs, bounds, literals, lists and optional ones; what is left out is the function's own default."""
    given = {"url": "u", "size": {"width": 3}, "scale": 2, "meta": {"a": 1}, "anything": [None]}
    assert make(image).parse(given) == {
        "url": "u",
        "size": Size(3, 1),
        "quality": 80,
        "mode": "fit",
        "tags": ["a"],
        "scale": 2.0,
        "meta": {"a": 1},
        "anything": [None],
    }
    assert make(counts).parse({"total": 3, "a": 1, "b": 2}) == {"total": 3, "a": 1, "b": 2}
    assert make(free).parse({"x": {"y": None}}) == {"x": {"y": None}}


@pytest.mark.parametrize(
    ("function", "parameters", "field"),
    [
        (image, {"size": {"width": 1}}, "url"),
        (image, {"url": 3, "size": {"width": 1}}, "url"),
        (image, {"url": "u", "size": None}, "size"),
        (image, {"url": "u", "size": {"width": 0}}, "size.width"),
        (image, {"url": "u", "size": {}}, "size.width"),
        (image, {"url": "u", "size": {"width": 1}, "quality": 101}, "quality"),
        (image, {"url": "u", "size": {"width": 1}, "quality": 1.5}, "quality"),
        (image, {"url": "u", "size": {"width": 1}, "mode": "stretch"}, "mode"),
        (image, {"url": "u", "size": {"width": 1}, "tags": ["a", 3]}, "tags[1]"),
        (image, {"url": "u", "size": {"width": 1}, "qualty": 3}, "qualty"),
        (counts, {"a": 1}, "total"),
        (counts, {"total": 1, "a": "1"}, "a"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(function: Any, parameters: dict[str, Any], field: str) -> None:
    """400 `invalid_parameters`, with the path of what is wrong, missing or unknown."""
    with pytest.raises(ApiError) as caught:
        make(function).parse(parameters)
    assert (caught.value.status, caught.value.code) == (400, "invalid_parameters")
    assert caught.value.details["workflow"] == "it"
    assert caught.value.details["field"] == f"parameters.{field}"
    assert caught.value.details["problem"]


def test_unknown_parameters_can_be_dropped() -> None:
    """On demand; what is known is still checked, in a signature and in a type for all parameters."""
    workflow = make(image, unknown=True)
    assert workflow.parse({"url": "u", "size": {"width": 1}, "qualty": 3})["quality"] == 80
    with pytest.raises(ApiError):
        workflow.parse({"url": 3, "size": {"width": 1}, "qualty": 3})

    class Strict(msgspec.Struct, forbid_unknown_fields=True):
        ms: int

    def whole(value: Strict) -> Any: ...

    parameters = read_whole(whole, Strict, {}, unknown=True)
    assert parameters.convert({"ms": 3, "sec": 1})["value"].ms == 3


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
        ([1], "The result is not a JSON object but a list"),
        (None, "The result is not a JSON object but a NoneType"),
        ("{}", "The result is not a JSON object but a str"),
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

    async def run() -> tuple[list[Outcome], float]:
        threads = Threads(1)
        workflow = make(nap, threads)
        start = time.perf_counter()
        outcomes = await asyncio.gather(*(execute(workflow, workflow.parse({"ms": 20})) for _ in range(5)))
        passed = time.perf_counter() - start
        await threads.close()
        return outcomes, passed * 1000

    outcomes, passed = asyncio.run(run())
    assert all(outcome.milliseconds >= 20 for outcome in outcomes)
    assert sum(outcome.milliseconds for outcome in outcomes) <= passed


def nap(ms: float) -> dict[str, float]:
    time.sleep(ms / 1000)
    return {}
