"""Fault injection for the reference API: values that describe faults, which the API applies itself."""

from typing import Final

from loadtest.faults.kinds import KINDS, AnyFault, Fault
from loadtest.faults.text import check_keys, fault_schema, from_values, parse, to_text, to_words

CONTROL_VARIABLE: Final = "LOADTEST_CONTROL"
"""The environment variable that gives load processes the control endpoint of an embedded target with faults."""

__all__ = [
    "CONTROL_VARIABLE",
    "KINDS",
    "AnyFault",
    "Fault",
    "check_keys",
    "fault_schema",
    "from_values",
    "kinds",
    "parse",
    "to_text",
    "to_words",
]
