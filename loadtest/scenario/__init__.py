"""Scenarios. A scenario defines traffic in a TOML file, which is checked strictly."""

from loadtest.contract import MISTAKE_STATUS, MistakeKind
from loadtest.scenario.fields import MAX_BURST, LimitSpec, LimitWord, Name, PositiveShare, Strict
from loadtest.scenario.model import Breakers, Scenario
from loadtest.scenario.parse import (
    FOLDER,
    SHIPPED,
    LoadedScenario,
    at_rate,
    find_scenario,
    load_scenario,
    only,
    scaled,
    scenario_hash,
    with_stage_alone,
)
from loadtest.scenario.recording import Recording
from loadtest.scenario.schema import schema_text
from loadtest.scenario.traffic import WARMUP, Polling, Retry, Stage, Traffic

__all__ = [
    "FOLDER",
    "MAX_BURST",
    "MISTAKE_STATUS",
    "SHIPPED",
    "WARMUP",
    "Breakers",
    "LimitSpec",
    "LimitWord",
    "LoadedScenario",
    "MistakeKind",
    "Name",
    "Polling",
    "PositiveShare",
    "Recording",
    "Retry",
    "Scenario",
    "Stage",
    "Strict",
    "Traffic",
    "at_rate",
    "find_scenario",
    "load_scenario",
    "only",
    "scaled",
    "scenario_hash",
    "schema_text",
    "with_stage_alone",
]
