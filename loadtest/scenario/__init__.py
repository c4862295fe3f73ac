"""Scenarios. A scenario defines traffic in a TOML file, which is checked strictly."""

from loadtest.scenario.fields import (
    MAX_BURST,
    LimitSpec,
    LimitWord,
    Name,
    PositiveShare,
    Strict,
    checked,
    read_toml,
)
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
    schema_text,
    with_stage_alone,
)
from loadtest.scenario.traffic import WARMUP, Polling, Recording, Retry, Stage, Traffic

__all__ = [
    "FOLDER",
    "MAX_BURST",
    "SHIPPED",
    "WARMUP",
    "Breakers",
    "LimitSpec",
    "LimitWord",
    "LoadedScenario",
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
    "checked",
    "find_scenario",
    "load_scenario",
    "only",
    "read_toml",
    "scaled",
    "scenario_hash",
    "schema_text",
    "with_stage_alone",
]
