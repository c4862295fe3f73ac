"""A function's signature as its workflow's contract: what a request's parameters must be, and how they reach it."""

import inspect
import typing
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import inspect as types

from loadtest.reference_api.validation import explain

_GIVEN: Final = "parameters"  # where a request has them, as errors name it
_IMMUTABLE: Final = (type(None), bool, int, float, str, bytes, tuple, frozenset)


class ParametersError(Exception):
    """A request's parameters are not what the workflow takes.

    Args:
        details: ``field`` and ``problem``.
    """

    def __init__(self, details: dict[str, str]) -> None:
        super().__init__(details["problem"])
        self.details = details


class SignatureError(Exception):
    """A function that cannot be a workflow; the message says why."""


class Named(NamedTuple):
    """Parameters by name, as a Struct with a field for each, and perhaps ``**others`` of one type."""

    struct: Any
    names: frozenset[str]
    others: Any

    def convert(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments to call the function with.

        Raises:
            ParametersError: if they don't fit, naming the first field that doesn't.
        """
        try:
            arguments = msgspec.structs.asdict(msgspec.convert(given, self.struct))
        except msgspec.ValidationError as error:
            raise ParametersError(explain(error, _GIVEN)) from None
        if self.others is not None:
            for name in given.keys() - self.names:
                arguments[name] = _converted(given[name], self.others, f"{_GIVEN}.{name}")
        return arguments


class Anything(NamedTuple):
    """Any parameters at all: a function that takes ``**parameters`` and says nothing of their types."""

    def convert(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments to call the function with."""
        return given


class Whole(NamedTuple):
    """All parameters together as one value, which is the function's only argument."""

    argument: str
    type: Any
    defaults: dict[str, Any]

    def convert(self, given: dict[str, Any]) -> dict[str, Any]:
        """The argument to call the function with.

        Raises:
            ParametersError: if they don't fit, naming the field.
        """
        return {self.argument: _converted({**self.defaults, **given}, self.type, _GIVEN)}


Parameters = Named | Anything | Whole


def _converted(value: Any, to: Any, within: str) -> Any:
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        raise ParametersError(explain(error, within)) from None


def read_signature(function: Callable[..., Any], *, unknown: bool = False) -> Parameters:
    """What a function's own signature asks of a request.

    Args:
        function: with parameters that can be given by name; one without annotation takes anything.
        unknown: whether parameters that the function doesn't have are let through, and dropped.

    Raises:
        SignatureError: if a parameter can't be given by name, its annotation can't be converted to, or it is a
            generator.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise SignatureError("it is a generator, and a result is one JSON object")
    hints = _hints(function)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    others = None
    for parameter in inspect.signature(function).parameters.values():
        annotation = hints.get(parameter.name, Any)
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
            raise SignatureError(f"its parameter {star}{parameter.name} can only be given by position")
        check_type(annotation, f"its parameter {parameter.name}")
        if parameter.kind is parameter.VAR_KEYWORD:
            others = annotation
        elif parameter.default is parameter.empty:
            fields.append((parameter.name, annotation))
        else:
            fields.append((parameter.name, annotation, _default(parameter.default)))
    if not fields and others is Any:
        return Anything()
    struct = msgspec.defstruct(
        f"{function.__name__}_parameters", fields, kw_only=True, forbid_unknown_fields=others is None and not unknown
    )
    return Named(struct, frozenset(field[0] for field in fields), others)


def read_whole(
    function: Callable[..., Any], parameters: Any, defaults: dict[str, Any], *, unknown: bool = False
) -> Whole:
    """What a function asks of a request whose parameters are declared as one type.

    Args:
        function: with exactly one parameter.
        parameters: a Struct, or a union of tagged ones.
        defaults: what is added where a request leaves it out.
        unknown: whether parameters that the type doesn't have are let through, and dropped.

    Raises:
        SignatureError: if it has another number of parameters, or the type can't be converted to.
    """
    names = list(inspect.signature(function).parameters)
    if len(names) != 1:
        raise SignatureError(f"it is declared with a type for all parameters, and takes {len(names)} arguments, not 1")
    check_type(parameters, "the type of its parameters")
    return Whole(names[0], _lenient(parameters) if unknown else parameters, defaults)


def check_type(annotation: Any, what: str) -> None:
    """Check that JSON can be converted to a type.

    Raises:
        SignatureError: if it can't.
    """
    try:
        found = _custom(types.type_info(annotation))
    except (TypeError, ValueError, NameError) as error:
        raise SignatureError(f"{what} has a type that JSON cannot be converted to: {error}") from None
    if found is not None:
        raise SignatureError(f"{what} has a type that JSON cannot be converted to: {found.__qualname__}")


def _custom(info: Any, seen: tuple[Any, ...] = ()) -> Any:
    """The first class within a type that isn't one of JSON's, nor made of them; None if there is none."""
    if isinstance(info, types.CustomType):
        return info.cls
    if not isinstance(info, types.Type | types.Field) or any(info is each for each in seen):
        return None
    for name in info.__struct_fields__:
        value = getattr(info, name)
        for each in value if isinstance(value, tuple) else (value,):
            if (found := _custom(each, (*seen, info))) is not None:
                return found
    return None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # noqa: BLE001 -- an annotation is code, and may raise anything
        raise SignatureError(f"an annotation of it cannot be evaluated: {error}") from None


def _default(value: Any) -> Any:
    # msgspec copies and restricts mutable defaults; a function's own are what they are.
    return value if isinstance(value, _IMMUTABLE) else msgspec.field(default_factory=lambda: value)


def _lenient(whole: Any) -> Any:
    """The same Struct or union of Structs, letting unknown fields through."""
    members = [
        msgspec.defstruct(each.__name__, [], bases=(each,), forbid_unknown_fields=False)
        for each in typing.get_args(whole) or (whole,)
    ]
    union: Any = members[0]
    for each in members[1:]:
        union |= each
    return union
