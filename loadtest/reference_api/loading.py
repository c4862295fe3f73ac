"""The workflows of a server: the built-in workflows, and the functions of configured modules."""

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import math
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final

import msgspec

from loadtest.contract import ErrorCode
from loadtest.errors import InputError
from loadtest.reference_api import WorkflowFailedError, cancelled
from loadtest.reference_api.execution import Call, Threads, Workflow, pause
from loadtest.reference_api.messages import ApiError, explain
from loadtest.reference_settings import ServerConfig

_DOCUMENT: Final = "docs/reference-api.md shows how to write a workflow."


Millis = Annotated[float, msgspec.Meta(ge=0, le=600_000)]
PositiveMillis = Annotated[float, msgspec.Meta(gt=0, le=600_000)]


class _HelloParameters(msgspec.Struct):
    name: str = "World"


class _FailParameters(msgspec.Struct):
    message: str = "This workflow always fails"


class _CpuParameters(msgspec.Struct):
    ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 10.0


class _SleepParameters(msgspec.Struct, tag_field="distribution", tag=str.lower):
    """Parameters of ``sleep``. The time is constant, or is drawn from a distribution."""


class Constant(_SleepParameters):
    """``sleep(distribution = "constant", ms = 100)``."""

    ms: Millis = 100.0


class Uniform(_SleepParameters):
    """``sleep(distribution = "uniform", min_ms = 0, max_ms = 200)``."""

    min_ms: Millis = 0.0
    max_ms: Millis = 200.0


class Exponential(_SleepParameters):
    """``sleep(distribution = "exponential", mean_ms = 100, max_ms = 60000)``."""

    mean_ms: PositiveMillis = 100.0
    max_ms: Millis = 60_000.0


class Lognormal(_SleepParameters):
    """``sleep(distribution = "lognormal", median_ms = 100, sigma = 0.5, max_ms = 60000)``, typical of services.

    ``sigma`` is the standard deviation of the logarithm.
    """

    median_ms: PositiveMillis = 100.0
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.5
    max_ms: Millis = 60_000.0


_Sleep = Constant | Uniform | Exponential | Lognormal


async def say_hello(parameters: _HelloParameters) -> dict[str, str]:
    """Return ``{"greeting": "Hello, NAME!"}``."""
    return {"greeting": f"Hello, {parameters.name}!"}


async def echo(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters."""
    return parameters


async def fail(parameters: _FailParameters) -> dict[str, Any]:
    """Fail with the given message."""
    raise WorkflowFailedError(parameters.message)


async def sleep(parameters: _Sleep) -> dict[str, float]:
    """Sleep for at least the constant or drawn time, and return ``{"sleptMs": slept}``."""
    match parameters:
        case Constant():
            ms = parameters.ms
        case Uniform():
            ms = random.uniform(parameters.min_ms, parameters.max_ms)  # noqa: S311 - a duration, not a secret
        case Exponential():
            ms = min(random.expovariate(1 / parameters.mean_ms), parameters.max_ms)
        case Lognormal():
            ms = min(random.lognormvariate(math.log(parameters.median_ms), parameters.sigma), parameters.max_ms)
    start = time.perf_counter()
    await pause(ms / 1000)
    return {"sleptMs": round((time.perf_counter() - start) * 1000, 3)}


def cpu(parameters: _CpuParameters) -> dict[str, float]:
    """Spend the given CPU time in a thread, and return ``{"cpuMs": spent}``."""
    # hashlib releases the interpreter lock for blocks of this size, so the thread does not stall the server.
    block = bytes(64 * 1024)
    start = time.thread_time()
    while (spent := time.thread_time() - start) < parameters.ms / 1000 and not cancelled():
        hashlib.sha256(block).digest()
    return {"cpuMs": round(spent * 1000, 3)}


BUILT_IN: Final[dict[str, tuple[Callable[[Any], Any], Any]]] = {
    "say-hello": (say_hello, _HelloParameters),
    "echo": (echo, dict[str, Any]),
    "fail": (fail, _FailParameters),
    "sleep": (sleep, _Sleep),
    "cpu": (cpu, _CpuParameters),
}
"""Built-in workflows by name. Each has a function and the type of its argument."""


def load_workflows(config: ServerConfig, threads: Threads) -> dict[str, Workflow]:
    """Return the workflows of a server by name. Plain functions run in ``threads``.

    Raise ``InputError`` if a module cannot be imported or has no public function, or a function cannot be served.
    """
    ignore = config.unknown_parameters == "ignore"
    workflows: dict[str, Workflow] = {}
    sources = dict.fromkeys(BUILT_IN, "built in")

    def add(name: str, function: Callable[..., Any], bind: Callable[[dict[str, Any]], Call]) -> None:
        workflows[name] = Workflow(name, bind, None if inspect.iscoroutinefunction(function) else threads)

    for name, (function, _) in BUILT_IN.items():
        add(name, function, _built_in_binder(name, ignore_unknown=ignore))
    for spec in dict.fromkeys(config.workflows):
        for function in _load(spec):
            name, source = function.__name__.replace("_", "-"), _source(function)
            if name in workflows:
                raise InputError(
                    f"--workflows {spec}: {source}: the workflow {name!r} already exists: {sources[name]}",
                    "Rename this function.",
                )
            add(name, function, _binder(spec, name, function, ignore_unknown=ignore))
            sources[name] = source
    return workflows


def _built_in_binder(workflow: str, *, ignore_unknown: bool) -> Callable[[dict[str, Any]], Call]:
    function, kind = BUILT_IN[workflow]
    defaults = {"distribution": "constant"} if kind is _Sleep else {}

    def bind(given: dict[str, Any]) -> Call:
        try:
            argument = msgspec.convert({**defaults, **given} if defaults else given, kind)
        except msgspec.ValidationError as error:
            raise _mismatch(workflow, **explain(error, "parameters")) from None
        if isinstance(argument, msgspec.Struct) and not ignore_unknown:
            _check_known(workflow, given, (*argument.__struct_fields__, *defaults))
        return partial(function, argument)

    return bind


def _binder(
    spec: str, workflow: str, function: Callable[..., Any], *, ignore_unknown: bool
) -> Callable[[dict[str, Any]], Call]:
    """Return a function that binds parameters by name and, unless ``ignore_unknown`` is set, rejects unknown names."""
    parameters = inspect.signature(function).parameters.values()
    for each in parameters:
        if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL):
            raise InputError(
                f"--workflows {spec}: {_source(function)} cannot be a workflow: its {each.name} can only be passed by "
                "position",
                f"Requests pass parameters by name. {_DOCUMENT}",
            )
    any_name = any(each.kind is each.VAR_KEYWORD for each in parameters)
    known = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
    required = {each.name for each in parameters if each.name in known and each.default is each.empty}

    def bind(given: dict[str, Any]) -> Call:
        if missing := required - given.keys():
            name = min(missing)
            raise _mismatch(workflow, f"parameters.{name}", f"Object missing required field `{name}`")
        if ignore_unknown and not any_name:
            given = {name: value for name, value in given.items() if name in known}
        elif not any_name:
            _check_known(workflow, given, known)
        return partial(function, **given)

    return bind


def _check_known(workflow: str, given: dict[str, Any], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise _mismatch(workflow, f"parameters.{name}", f"Object contains unknown field `{name}`")


def _mismatch(workflow: str, field: str, problem: str) -> ApiError:
    details = {"workflow": workflow, "field": field, "problem": problem}
    return ApiError(ErrorCode.INVALID_PARAMETERS, f"Invalid parameters for {workflow}", details)


def _load(spec: str) -> list[Callable[..., Any]]:
    """Return a module's workflow functions: the functions in ``__all__``, or else its own public functions."""
    load = _from_file if spec.endswith(".py") or os.sep in spec else _from_name
    try:
        # A module's output goes to standard error, because standard output begins with the server's address.
        with contextlib.redirect_stdout(sys.stderr):
            module = load(spec)
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - any error of the module is reported
        last = traceback.format_exception_only(error)[-1].strip()
        raise InputError(
            f"--workflows {spec}: cannot be imported: {_where(error)}: {last}",
            f"Try: python {spec}" if spec.endswith(".py") else f"Try: python -m {spec}",
        ) from None
    public = getattr(module, "__all__", None)
    found: list[Callable[..., Any]] = [
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and (name in public if public is not None else value.__module__ == module.__name__ and name[0] != "_")
    ]
    if not found:
        raise InputError(
            f"--workflows {spec}: {getattr(module, '__file__', None) or module.__name__} has no public function",
            f"Each public function of a module is a workflow. {_DOCUMENT}",
        )
    return found


def _from_name(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        remedy = "Use a dotted module such as jobs.images, or the path of a .py file."
        raise InputError(f"--workflows {name}: this is neither a module nor a .py file", remedy)
    _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # this module imports another module, which is missing
        raise InputError(
            f"--workflows {name}: there is no module {error.name!r}",
            f"Modules are searched for in the working directory ({Path.cwd()}) and among installed packages; "
            "to use a file elsewhere, give its path.",
        ) from None


def _from_file(text: str) -> ModuleType:
    path = Path(text).resolve()
    if path.suffix != ".py" or not path.is_file():
        remedy = f"Give the path of a .py file; relative paths start at the working directory ({Path.cwd()})."
        raise InputError(f"--workflows {text}: there is no such .py file", remedy)
    _look_in(path.parent)  # as `python FILE` does, so that the module can import files beside it
    name = path.stem
    while name in sys.modules:  # another file or module may already have this name
        name += "_"
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and annotations look for their module there
    spec.loader.exec_module(module)
    return module


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _source(function: Callable[..., Any]) -> str:
    code = inspect.unwrap(function).__code__
    return f"{_shown(code.co_filename)}:{code.co_firstlineno} ({function.__name__})"


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith("<frozen") and frame.filename not in (__file__, importlib.__file__):
            return f"{_shown(frame.filename)}:{frame.lineno}"
    return "during the import"


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
