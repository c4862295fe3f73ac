"""Scenarios: what traffic to offer, written as strict TOML."""

from loadtest.contract import MISTAKE_STATUS, MistakeKind
from loadtest.scenario.model import Scenario
from loadtest.scenario.parse import find_scenario, load_scenario, scenario_hash
from loadtest.scenario.traffic import WARMUP, Expect, Polling, Retry, Stage, Traffic

__all__ = [
    "MISTAKE_STATUS",
    "WARMUP",
    "Expect",
    "MistakeKind",
    "Polling",
    "Retry",
    "Scenario",
    "Stage",
    "Traffic",
    "find_scenario",
    "load_scenario",
    "scenario_hash",
]
