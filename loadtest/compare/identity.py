"""Which runs may be compared: what must be the same on both sides, and how a difference is put into words."""

from collections.abc import Iterator

from loadtest.compare.measurements import RunMeasurements


def mismatch(base: RunMeasurements, head: RunMeasurements, *, paired: bool = False) -> str:
    """What makes two runs not comparable, with both values; empty if nothing does.

    A history needs the same scenario, target (host, endpoint, limits, faults, number of keys) and, only where the
    target is embedded and shares the generator's machine, the same generator. Against another target the generator may
    change: hosted runners change processors from job to job, and each run's own validity judges its generator.
    The target's version is never matched: that is what a comparison is about.

    Args:
        base: an earlier run, or the base side of a pair.
        head: the run in question, or the head side.
        paired: the two sides of a pair are two deployments (or two settings of the embedded API) on purpose: host,
            endpoint, limits, faults and the scenario's hash, which holds the embedded API's settings, may differ.
    """
    for name, one, other in _fields(base, head, paired=paired):
        if one != other:
            return f"{name} differs: {_shown(one)} before, {_shown(other)} now"
    return ""


def _fields(base: RunMeasurements, head: RunMeasurements, *, paired: bool) -> Iterator[tuple[str, object, object]]:
    """Name and both values of each field that must match, the most telling first."""
    yield "the scenario", base.scenario, head.scenario
    yield "whether the target is embedded", base.embedded, head.embedded
    if not paired:
        yield "the target's host", base.target.host, head.target.host
        yield "the endpoint (a digest of x-wf-endpoint)", base.target.endpoint, head.target.endpoint
        yield "the assumed limits", base.target.limits, head.target.limits
        yield "the faults of the target", base.target.faults, head.target.faults
    yield "the number of API keys", base.target.keys, head.target.keys
    if not paired or not head.embedded:
        yield "the scenario's hash", base.scenario_hash, head.scenario_hash
    yield "the form of the measurements (schema)", base.schema, head.schema
    if head.embedded:
        # The embedded API shares the generator's machine: another machine is another service.
        yield "the processor of the machine", base.generator.cpu, head.generator.cpu
        yield "the cores of the machine", base.generator.cores, head.generator.cores
        yield "the operating system", base.generator.os, head.generator.os
        yield "the number of workers", base.generator.workers, head.generator.workers


def _shown(value: object) -> str:
    """A value in a sentence."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value) or "none"
    return str(value) or "none"
