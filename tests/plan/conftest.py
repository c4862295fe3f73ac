"""Scenarios in a few words, and what is planned of them."""

from collections.abc import Callable
from typing import Any

import pytest

from loadtest.plan import AssumedLimits, Plan, Question, make_plan, traffic_plans
from loadtest.scenario import Scenario


@pytest.fixture
def ask() -> Callable[..., Question]:
    """Resolve a scenario given as TOML would give it: traffic, and whatever else at its top."""

    def resolve(
        traffic: dict[str, Any], *, start: float | None = None, job_s: float | None = None, **top: Any
    ) -> Question:
        scenario = Scenario.model_validate({"title": "t", "traffic": traffic, **top})
        assumed = AssumedLimits.of_embedded(scenario)
        plans = traffic_plans(scenario, assumed, scenario.keys)
        told = None if scenario.target.settings.retry_after == "none" else scenario.target.settings.retry_after_factor
        dated = scenario.target.settings.retry_after == "date"
        return Question(scenario, plans, assumed, retry_after=told, as_date=dated, start=start, job_s=job_s)

    return resolve


@pytest.fixture
def plan(ask: Callable[..., Question]) -> Callable[..., Plan]:
    """The plan of such a scenario."""

    def make(traffic: dict[str, Any], *, price: float | None = None, **rest: Any) -> Plan:
        question = ask(traffic, **rest)
        return make_plan(question, "t", question.scenario.keys, price)

    return make
