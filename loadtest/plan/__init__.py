"""What a scenario will ask of the limits, before anything is sent. Pure."""

from loadtest.plan.stages import (
    DEFAULT_MAX_USERS,
    believed_limits,
    key_range,
    operation_deadline,
    pool_size,
    schedules,
    traffic_plans,
)

__all__ = [
    "DEFAULT_MAX_USERS",
    "believed_limits",
    "key_range",
    "operation_deadline",
    "pool_size",
    "schedules",
    "traffic_plans",
]
