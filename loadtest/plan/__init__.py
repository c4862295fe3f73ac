"""Forecasts of a scenario's load against the rate limits, before anything is sent. Pure."""

from loadtest.assumed_limits import CONCURRENCY, AssumedLimits
from loadtest.contract import ALL
from loadtest.plan.forecast import Question
from loadtest.plan.stages import (
    FIRST_USERS,
    MAX_USERS,
    key_range,
    operation_deadline,
    pool_size,
    schedules,
    traffic_plans,
)
from loadtest.plan.summary import Plan, make_plan

__all__ = [
    "ALL",
    "CONCURRENCY",
    "FIRST_USERS",
    "MAX_USERS",
    "AssumedLimits",
    "Plan",
    "Question",
    "key_range",
    "make_plan",
    "operation_deadline",
    "pool_size",
    "schedules",
    "traffic_plans",
]
