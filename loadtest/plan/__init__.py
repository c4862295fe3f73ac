"""Forecasts of a run. Its load is replayed against the rate limits before anything is sent. Pure."""

from loadtest.assumed_limits import AssumedLimits
from loadtest.plan.contradictions import Contradiction, contradictions, spoilt_by_duration, unknown_workflows
from loadtest.plan.forecast import forecast
from loadtest.plan.offer import Question, job_duration
from loadtest.plan.stages import schedules, traffic_plans
from loadtest.plan.summary import LimitRow, Plan, Spread, StageRow, make_plan

__all__ = [
    "AssumedLimits",
    "Contradiction",
    "LimitRow",
    "Plan",
    "Question",
    "Spread",
    "StageRow",
    "contradictions",
    "forecast",
    "job_duration",
    "make_plan",
    "schedules",
    "spoilt_by_duration",
    "traffic_plans",
    "unknown_workflows",
]
