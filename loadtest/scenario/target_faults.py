"""``[[target.fault]]``: how the embedded target is to misbehave, read by the words of ``loadtest.faults``."""

from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from loadtest.errors import InputError
from loadtest.faults import Fault, fault_schema, from_values, to_text


def _fault(value: object) -> Fault:
    if isinstance(value, Fault):
        return value
    if not isinstance(value, dict):
        raise ValueError("a fault is a table, with its kind")  # noqa: TRY004 - pydantic reports ValueErrors
    try:
        return from_values(value)
    except InputError as error:
        raise ValueError(f"{error.message}. {error.remedy}") from None


FaultSpec = Annotated[Fault, BeforeValidator(_fault), PlainSerializer(to_text), WithJsonSchema(fault_schema())]
"""A fault, written as a table with its ``kind`` and that kind's own keys."""
