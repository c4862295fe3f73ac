"""Scenarios: what traffic to offer, written as strict TOML."""

from loadtest.scenario.model import LIMIT_OF, WARMUP, Polling, Scenario, Stage, Traffic
from loadtest.scenario.parse import find_scenario, load_scenario, scenario_hash

__all__ = [
    "LIMIT_OF",
    "WARMUP",
    "Polling",
    "Scenario",
    "Stage",
    "Traffic",
    "find_scenario",
    "load_scenario",
    "scenario_hash",
]
