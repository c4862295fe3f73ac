"""Settings of which a capacity search has to find the answer, which follows from their numbers.

Each is a scenario (sync runs, or jobs polled at a fixed interval; sometimes sync runs beside jobs) against limits and a
queue of c workers for the first of these; the start is anywhere in a window. By hand, with T the seconds of a level,
S the time of work (0.8 to 1.2 D), I the poll interval, and X the highest response time (p95) allowed, a limit of N in W
lets through

- in wall-aligned windows and a sliding log: N / W;
- from a token bucket of burst B: N / W + B / T;
- of Poisson arrivals in wall-aligned windows, of which a tenth may be refused: the mean μ / W of a Poisson count X with
  E max(0, X - N) = μ / 10.

Of runs and submits that is the answer; of polls it is divided by the polls of a job, D / I rounded up. The service:

- work waits for what is ahead of it: from one arrival to the next, w' = max(0, w + D/c - gap) (Lindley, 1952). Its time
  is w + S, of a job that of the poll that sees its end: it is polled (w + S) / I times, rounded up. The rate is the
  highest at which 95 % of the times are within X, and the limit of retrievals lets all these polls through.

The lowest is the answer. Settings in which two are less than 15 % apart are left out: neither is *the* constraint.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.optimize import brentq
from scipy.stats import poisson

from loadtest.arrays import Floats
from loadtest.assumed_limits import AssumedLimits
from loadtest.capacity.results import Constraint
from loadtest.contract import LimitName
from loadtest.plan import traffic_plans
from loadtest.plan.stages import schedules
from loadtest.scenario import Scenario
from loadtest.scenario.parse import LoadedScenario, at_rate

APART: Final = 1.15
TOLERATED: Final = 0.1
"""Part of Poisson arrivals that may be refused: none is no question that has an answer."""
_HALVINGS: Final = 12
_BIN_S: Final = 0.05
"""Seconds in which polls are counted."""
_TIMES: Final = np.linspace(0.8, 1.2, 9)
"""What work takes, in parts of the mean."""


@dataclass(frozen=True)
class Setting:
    """A service and what is asked of it; limits as (N, W); ``beside``: sync runs for each job, which never wait."""

    jobs: bool
    limits: dict[LimitName, tuple[int, int]]
    workers: int
    time_s: float
    interval_s: float
    allowed_s: float
    stage_s: float
    rate: float
    phase: float
    algorithm: str
    burst: int | None
    poisson: bool
    beside: float

    @property
    def kind(self) -> str:
        """What is particular about it."""
        arrivals = "Poisson arrivals" if self.poisson else self.algorithm
        return arrivals + (", two entries" if self.beside else "")

    def through(self, name: LimitName) -> float:
        """Requests/s that a limit lets through."""
        count, window = self.limits[name]
        if self.poisson and name != LimitName.RETRIEVAL:
            return brentq(lambda mean: _excess(mean, count) - TOLERATED * mean, count, 2 * count) / window
        return count / window + (self.burst / self.stage_s if self.burst else 0.0)

    def ceilings(self) -> dict[tuple[Constraint, LimitName | None], float]:
        """The rate at which each constraint stops more, by hand."""
        found: dict[tuple[Constraint, LimitName | None], float] = {}
        if self.jobs:
            polls = math.ceil(self.time_s / self.interval_s)
            found[Constraint.LIMIT, LimitName.ASYNC_SUBMIT] = self.through(LimitName.ASYNC_SUBMIT)
            found[Constraint.POLL_BUDGET, LimitName.RETRIEVAL] = self.through(LimitName.RETRIEVAL) / polls
        if self.beside or not self.jobs:
            found[Constraint.LIMIT, LimitName.SYNC_RUN] = self.through(LimitName.SYNC_RUN) / (self.beside or 1)
        found[Constraint.SERVICE, None] = self._served()
        return found

    def _served(self) -> float:
        """The rate up to which who waits is done in time, and the polls of these are let through; by halving."""
        done = self.workers / self.time_s
        low, high = done / 2, 3 * done
        unit_times = self._arrivals(high)
        for _ in range(_HALVINGS):
            rate = math.sqrt(low * high)
            within = self._in_time(unit_times / rate)
            low, high = (rate, high) if within else (low, rate)
        return low

    def _arrivals(self, rate: float) -> Floats:
        """When work arrives, at 1 a second; enough for a stage of up to ``rate``."""
        scenario = at_rate(self.scenario(), rate / self.rate, None).scenario
        plans = traffic_plans(scenario, AssumedLimits.for_scenario(scenario, embedded=True), 1)
        schedule = next(each for each in schedules(plans, scenario.seed) if each.traffic == "it")
        return np.array([arrival.intended_ns for arrival in schedule.share()]) / 1e9 * rate

    def _in_time(self, arrivals: Floats) -> bool:
        at = arrivals[arrivals < self.stage_s]
        ahead = np.cumsum(self.time_s / self.workers - np.diff(at, prepend=at[0]))
        seen = (ahead - np.minimum.accumulate(ahead))[:, None] + self.time_s * _TIMES
        if self.jobs:
            seen = np.ceil(seen / self.interval_s) * self.interval_s
        if np.quantile(seen, 0.95) > self.allowed_s + 1e-6:
            return False
        return not self.jobs or self._polls_pass(at, seen)

    def _polls_pass(self, at: Floats, seen: Floats) -> bool:
        """Whether the limit lets the polls of jobs that arrive ``at`` through, until each was ``seen``; in bins."""
        count, window = self.limits[LimitName.RETRIEVAL]
        polls = np.arange(self.interval_s, seen.max() + _BIN_S, self.interval_s)
        asked = (seen[:, :, None] > polls - 1e-6).mean(1)
        edges = np.arange(-self.phase, self.stage_s + seen.max() + window, _BIN_S)
        binned, _ = np.histogram(at[:, None] + polls, edges, weights=asked)
        total, step = np.cumsum([0.0, *binned]), round(window / _BIN_S)
        if self.burst is not None:
            beyond = total - count / window * _BIN_S * np.arange(len(total))
            return bool((beyond - np.minimum.accumulate(beyond)).max() <= self.burst)
        windows = total[step:] - total[:-step]
        return bool((windows[::step] if self.algorithm == "fixed-window" else windows).max() <= count)

    def scenario(self) -> LoadedScenario:
        """The setting as a scenario."""
        entry: dict[str, Any] = {"operation": "sync_run", "workflow": "sleep"}
        entry["arrivals"] = "poisson" if self.poisson else "even"
        traffic = {"it": entry | {"stages": self._stages(1.0), "parameters": {"ms": self.time_s * 1e3}}}
        if self.beside:
            traffic["beside"] = entry | {"stages": self._stages(self.beside)}
        if self.jobs:
            traffic["it"] |= {"operation": "async_run", "polling": {"interval": f"{self.interval_s:.6f}s"}}
        limit = f"throttled_rate <= {TOLERATED}" if self.poisson else "requests.throttled == 0"
        require = [(name, limit) for name in traffic] + [("it", f"response_time.p95 <= {self.allowed_s * 1e3:.3f}ms")]
        written: dict[str, Any] = {
            "title": "t",
            "seed": int(self.phase * 1e6),
            "target": {
                "workers": self.workers,
                "algorithm": self.algorithm,
                **({} if self.burst is None else {"burst": self.burst}),
                "enforce": {name: f"{count}/{window}s" for name, (count, window) in self.limits.items()},
            },
            "traffic": traffic,
            "threshold": [{"traffic": name, "stage": "it", "require": each} for name, each in require],
        }
        return LoadedScenario(Scenario.model_validate(written), Path(), written)

    def _stages(self, share: float) -> list[dict[str, str]]:
        return [{"name": "it", "rate": f"{self.rate * share:.6f}/s", "duration": f"{self.stage_s:g}s"}]


def _excess(mean: float, count: int) -> float:
    """E max(0, X - N) of a Poisson count X."""
    return float(mean * poisson.sf(count - 1, mean) - count * poisson.sf(count, mean))


def drawn(rng: random.Random) -> Setting:
    """A setting in which one constraint is clearly the lowest, each as often as the others of its operation."""
    while True:
        jobs = rng.random() < 0.6
        time_s = rng.uniform(0.05, 1.5)
        interval_s = time_s * rng.choice([0.27, 0.4, 0.7, 1.3])
        # The time of a job varies by a fifth: it must not change how many polls it needs.
        if jobs and math.ceil(time_s * 0.8 / interval_s) != math.ceil(time_s * 1.2 / interval_s):
            continue
        algorithm = rng.choice(["fixed-window", "fixed-window", "sliding-log", "token-bucket"])
        random_arrivals = algorithm == "fixed-window" and rng.random() < 0.3
        window, answer = rng.choice([1, 2, 5]), rng.uniform(60 if random_arrivals else 20, 100)
        # With Poisson arrivals, the polls have room to spare: how many of them are refused is no simple formula.
        low = rng.choice(["submit", "work"] if random_arrivals or not jobs else ["submit", "poll", "work"])
        apart = 2.0 if random_arrivals else APART
        beside = rng.uniform(0.2, 1) if jobs and rng.random() < 0.4 else 0.0
        named = ("submit", "poll", "work", "beside")
        rates = {each: answer * (1 if each == low else rng.uniform(apart, 5)) for each in named}
        limits = {name: (round(rates["submit"] * window), window) for name in LimitName}
        polls = math.ceil(time_s / interval_s)
        limits[LimitName.RETRIEVAL] = (round(rates["poll"] * polls * window), window)
        if beside:
            limits[LimitName.SYNC_RUN] = (round(rates["beside"] * beside * window), window)
        least = min(count for count, _ in limits.values())
        setting = Setting(
            jobs=jobs,
            limits=limits,
            workers=max(1, round(rates["work"] * time_s)),
            time_s=time_s,
            interval_s=interval_s,
            allowed_s=time_s * 1.3 + rng.uniform(0.2, 0.6) + 2 * interval_s * jobs,
            # Of random arrivals a longer stage: their number varies.
            stage_s=40.0 if random_arrivals else 10.0 * rng.choice([1, 2]),
            rate=answer * 2 ** rng.uniform(-2, 2),
            phase=rng.uniform(0, window),
            algorithm=algorithm,
            burst=rng.randint(1, max(1, least)) if algorithm == "token-bucket" else None,
            poisson=random_arrivals,
            beside=beside,
        )
        first, second, *_ = sorted(setting.ceilings().values())
        if second / first >= APART:
            return setting
