"""Which workflows a server has: the built-in ones, and those of modules that it is told to load."""

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from loadtest.errors import InputError
from loadtest.reference_api import builtin
from loadtest.reference_api.authoring import REGISTERED, Registered
from loadtest.reference_api.config import ServerConfig
from loadtest.reference_api.signature import Parameters, SignatureError, read_signature, read_whole
from loadtest.reference_api.threads import Threads
from loadtest.reference_api.workflows import Workflow, is_async

_DOCUMENT: Final = "docs/workflows.md shows how to write one."
_MAX_NAME: Final = 100


def load_workflows(config: ServerConfig, threads: Threads) -> dict[str, Workflow]:
    """Every workflow of a server, by name.

    Args:
        config: its ``workflows`` are dotted modules, looked for in the working directory first, or paths of .py files.
        threads: where plain functions run.

    Raises:
        InputError: if a module can't be imported, has no workflow, or has one that can't be served.
    """
    unknown = config.unknown_parameters == "ignore"
    workflows: dict[str, Workflow] = {}
    places: dict[str, str] = {}
    found = [("", each) for each in _registered_in(builtin)]
    for spec in dict.fromkeys(config.workflows):
        found += [(spec, each) for each in _load(spec)]
    for spec, registered in found:
        place = f"{_place(registered.function)} ({registered.function.__name__})"
        _check_name(spec, registered, place, places)
        workflows[registered.name] = _workflow(spec, registered, place, threads, unknown=unknown)
        places[registered.name] = place if spec else "built in"
    return workflows


def _check_name(spec: str, registered: Registered, place: str, places: dict[str, str]) -> None:
    name = registered.name
    if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= _MAX_NAME):
        raise InputError(
            f"--workflows {spec}: {place}: {name!r} is not a name for a workflow",
            f'Give it one as @workflow(name="..."): printable, and at most {_MAX_NAME} characters.',
        )
    if name in places:
        raise InputError(
            f"--workflows {spec}: {place}: there is a workflow {name!r} already: {places[name]}",
            'Give this one another name, as @workflow(name="...").',
        )


def _workflow(spec: str, registered: Registered, place: str, threads: Threads, *, unknown: bool) -> Workflow:
    name, function, whole, defaults = registered
    parameters: Parameters
    try:
        if whole is None:
            parameters = read_signature(function, unknown=unknown)
        else:
            parameters = read_whole(function, whole, defaults, unknown=unknown)
    except SignatureError as error:
        remedy = f"Parameters are given by name, and converted from JSON to their annotations. {_DOCUMENT}"
        raise InputError(f"--workflows {spec}: {place} cannot be a workflow: {error}", remedy) from None
    return Workflow(name, parameters, function, None if is_async(function) else threads)


def _load(spec: str) -> list[Registered]:
    # What a module prints goes to standard error: the first line on standard output is the server's address.
    with contextlib.redirect_stdout(sys.stderr):
        is_path = spec.endswith(".py") or os.sep in spec
        module = _imported(spec, _from_file if is_path else _from_name)
    found = _registered_in(module)
    if not found:
        raise InputError(
            f"--workflows {spec}: {getattr(module, '__file__', None) or module.__name__} declares no workflow",
            f"Write @workflow above a function, from `from loadtest.reference_api import workflow`. {_DOCUMENT}",
        )
    return found


def _imported(spec: str, load: Callable[[str], ModuleType]) -> ModuleType:
    try:
        return load(spec)
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 -- the module's own mistake, whatever it is, in its author's words
        last = traceback.format_exception_only(error)[-1].strip()
        raise InputError(
            f"--workflows {spec}: it cannot be imported: {_where(error)}: {last}",
            f"Try it alone: python {spec}" if spec.endswith(".py") else f"Try it alone: python -m {spec}",
        ) from None


def _from_name(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        remedy = "Write a dotted module, such as jobs.images, or the path of a .py file."
        raise InputError(f"--workflows {name}: this is neither a module nor a .py file", remedy)
    _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something else that the module imports
        raise InputError(
            f"--workflows {name}: there is no module {error.name!r}",
            f"Modules are looked for in the working directory ({Path.cwd()}) and among the installed ones; "
            "for a file elsewhere write its path.",
        ) from None


def _from_file(text: str) -> ModuleType:
    path = Path(text).resolve()
    if path.suffix != ".py" or not path.is_file():
        remedy = f"Write the path of a .py file; relative ones begin at the working directory ({Path.cwd()})."
        raise InputError(f"--workflows {text}: there is no such file", remedy)
    _look_in(path.parent)  # as `python FILE` does, so that it can import what lies beside it
    name = path.stem
    while name in sys.modules:  # two files of one name, or one that is called like a module of someone else's
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and annotations look their module up there
    spec.loader.exec_module(module)
    return module


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _registered_in(module: ModuleType) -> list[Registered]:
    """What a module declares itself, even where a later one took its name, and what it imports from elsewhere."""
    imported = {id(value) for value in vars(module).values()}

    def belongs(registered: Registered) -> bool:
        written_in = getattr(inspect.unwrap(registered.function), "__globals__", None)
        return written_in is vars(module) or id(registered.function) in imported

    return list(filter(belongs, REGISTERED))


def _place(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{_shown(code.co_filename)}:{code.co_firstlineno}" if code else repr(function)


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}:{error.lineno}"
    frames: Iterable[traceback.FrameSummary] = reversed(traceback.extract_tb(error.__traceback__))
    for frame in frames:
        if not frame.filename.startswith("<frozen") and frame.filename not in (__file__, importlib.__file__):
            return f"{_shown(frame.filename)}:{frame.lineno}"
    return "at its import"


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
