"""What a scenario compares: alternatives among its traffic entries, or the effect of a stage against a baseline."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from loadtest.contract import Operation
from loadtest.scenario.fields import Strict
from loadtest.scenario.traffic import Traffic
from loadtest.strict import nearest
from loadtest.threshold import ASYNC_ONLY, METRICS, nearest_metric

_LEAST: Final = 2
_MOST: Final = 12
"""Sides of one comparison: each is compared with each."""


def _metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"{name!r} is no metric. {nearest_metric(name)}")
    return name


Metric = Annotated[str, AfterValidator(_metric)]
Sides = Annotated[list[str], Field(min_length=_LEAST, max_length=_MOST)]


class Comparison(Strict):
    """One comparison, of ``entries`` with each other, or of the ``stages`` of one ``entry`` with the first of them."""

    entries: Sides | None = None
    """Traffic entries that are alternatives to each other."""
    entry: str | None = None
    """A traffic entry whose stages are compared."""
    stages: Sides | None = None
    """Its stages; the first one is the baseline."""
    by: Annotated[list[Metric], Field(min_length=1, max_length=8)]
    """Metrics as thresholds name them. Of alternatives the first decides, and the others are its price."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.entries is None) == (self.entry is None):
            raise ValueError("give entries (alternatives), or entry with stages (an effect)")
        if (self.entry is None) != (self.stages is None):
            raise ValueError("entry and stages belong together: the first stage is the baseline of the others")
        for key in ("entries", "stages", "by"):
            values = getattr(self, key) or []
            if len(set(values)) < len(values):
                raise ValueError(f"{key} names something twice: {', '.join(values)}")
        return self

    def misfits(self, traffic: dict[str, Traffic]) -> Iterator[str]:
        """Say what it names and a scenario's traffic does not have, as ``KEY: what is wrong``."""
        names = self.entries or [self.entry or ""]
        key = "entries" if self.entries else "entry"
        for name in names:
            if name not in traffic:
                yield f"{key}: there is no traffic {name!r}{nearest(name, list(traffic))}"
                return
        if self.entries is None and self.stages is not None:
            yield from _unknown_stages(self.stages, traffic[names[0]].stage_names)
        for metric in self.by:
            others = [name for name in names if traffic[name].operation != Operation.ASYNC_RUN]
            if metric.startswith(ASYNC_ONLY) and others:
                yield f"by: {metric} is known for async_run only, and {others[0]} is none"


def _unknown_stages(stages: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    for stage in stages:
        if stage not in known:
            yield f"stages: there is no stage {stage!r}{nearest(stage, known)}"
