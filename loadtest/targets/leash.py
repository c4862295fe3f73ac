"""What an entry allows, held against what a run will send: every refusal comes before the first request. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

from loadtest.errors import InputError
from loadtest.limits import Limit, LimitName
from loadtest.runfile import LeashInfo
from loadtest.targets.choose import Chosen
from loadtest.targets.demand import Demand


def check_leash(
    chosen: Chosen, demand: Demand, limits: Mapping[LimitName, Limit], *, keys: int, now: datetime
) -> LeashInfo | None:
    """Check that a run stays inside the leash of its target's entry.

    Args:
        chosen: the target.
        demand: what will be sent at least.
        limits: the believed limits, each per key.
        keys: how many API keys share the traffic.
        now: the moment at which it would start.

    Returns:
        The leash that has to hold while it runs; None for a target without an entry.

    Raises:
        InputError: if it would leave the leash: file, key, both numbers, and what to do.
    """
    entry = chosen.entry
    if entry is None:
        return None
    until = _check_times(chosen, demand, now)
    _check_counts(chosen, demand)
    for name, limit in limits.items():
        allowed = entry.max_share * limit.count * keys
        if (peak := demand.peak(name, limit)) > allowed * (1 + 1e-9):
            raise InputError(
                f"{chosen.key('max_share')} allows {_share(entry.max_share)} of the {name} limit, {allowed:g} requests "
                f"per {limit.window:g} s with {keys} key{'s' if keys > 1 else ''}, and up to {peak} are planned"
                + (" (a poll for each submit counts, and so do preflight and seeding)" if name == "retrieval" else ""),
                f"Lower the rates (--set traffic.NAME.stages.STAGE.rate=…), or have max_share raised by {entry.owner}.",
            )
    return LeashInfo(
        name=chosen.name or "",
        environment=entry.environment,
        owner=entry.owner,
        max_share=entry.max_share,
        max_operations=entry.max_operations,
        max_requests=entry.max_requests,
        price_per_execution=entry.price_per_execution,
        max_cost=entry.max_cost,
        until_unix_s=until,
    )


def _check_counts(chosen: Chosen, demand: Demand) -> None:
    entry = chosen.entry
    if entry is None:
        return
    if entry.max_operations is not None and demand.operations > entry.max_operations:
        raise InputError(
            f"{chosen.key('max_operations')} is {entry.max_operations:,}, and {demand.operations:,} are planned",
            "Shorten the stages or lower their rates with --set.",
        )
    if entry.max_requests is not None and demand.requests > entry.max_requests:
        raise InputError(
            f"{chosen.key('max_requests')} is {entry.max_requests:,}, and at least {demand.requests:,} are planned "
            "(a poll for each submit, preflight and seeding included)",
            "Shorten the stages or lower their rates with --set.",
        )
    if entry.max_cost is not None and entry.price_per_execution is not None:
        cost = demand.executions * entry.price_per_execution
        if cost > entry.max_cost * (1 + 1e-9):
            raise InputError(
                f"{chosen.key('max_cost')} is {entry.max_cost:g}, and the {demand.executions:,} executions planned "
                f"cost {cost:g} at {entry.price_per_execution:g} each",
                "Shorten the stages or lower their rates with --set.",
            )


def _check_times(chosen: Chosen, demand: Demand, now: datetime) -> float | None:
    """Check expiry and hours; gives the unix time from which nothing may be sent."""
    entry = chosen.entry
    if entry is None:
        return None
    ends = []
    if entry.expiry is not None:
        if now >= entry.expiry:
            raise InputError(
                f"{chosen.key('expires')} was {entry.expires}, and today is {now.astimezone(UTC):%Y-%m-%d}",
                f"Have {entry.owner} agree anew, and write a later date.",
            )
        ends.append(("expires", str(entry.expires), (entry.expiry - now).total_seconds()))
    if entry.allowed_hours is not None:
        left = entry.allowed_hours.seconds_left(now)
        local = now.astimezone(entry.allowed_hours.zone)
        if left is None:
            raise InputError(
                f"{chosen.key('allowed_hours')} are {entry.allowed_hours.text}, and there it is {local:%H:%M}",
                "Come back then.",
            )
        ends.append(("allowed_hours", entry.allowed_hours.text, left))
    for key, text, left in ends:
        if demand.duration_s > left:
            raise InputError(
                f"{chosen.key(key)} ({text}) leaves {left:.0f} s, and the run may take {demand.duration_s:.0f} s, its "
                "drain included",
                "Start earlier, or shorten the stages.",
            )
    return min((now.timestamp() + left for _, _, left in ends), default=None)


def _share(share: float) -> str:
    return f"{share * 100:g} %"
