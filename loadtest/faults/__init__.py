"""Faults on demand: how a target can be told to misbehave. Values only; ``loadtest.target.faults`` applies them."""

from loadtest.faults.kinds import KINDS, AnyFault, Fault
from loadtest.faults.schema import fault_schema
from loadtest.faults.text import from_values, parse, to_text
from loadtest.faults.words import to_words

__all__ = ["KINDS", "AnyFault", "Fault", "fault_schema", "from_values", "parse", "to_text", "to_words"]
