"""Fault injection for the reference API. The values here describe faults; the API itself applies them."""

from typing import Final

from loadtest.faults.kinds import KINDS, AnyFault, Fault
from loadtest.faults.text import check_keys, fault_schema, from_values, parse, to_text, to_words

CONTROL_VARIABLE: Final = "LOADTEST_CONTROL"
"""This environment variable gives load processes the control endpoint of an embedded target."""

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
