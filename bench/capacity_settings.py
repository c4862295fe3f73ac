"""Coverage and width of the ranges of capacity searches, in simulated time.

Each search has a setting that is drawn at random: a queue, a limit with right or wrong documentation, or jobs beside
sync runs. At the true rate, half of the runs with fresh seeds pass. Up to 500 runs of each rate find it.
Run: ``python bench/capacity_settings.py``. The bars: 90 % of the ranges contain the true rate, and the median width is
at most 25 % for queues, and 10 % for limits and even arrivals. Exits with 1 if a bar is missed.

Short form: 40 searches of each kind instead of 100, and no mixed settings, because their
forecasts take minutes. A share then misses if its whole 95 % interval is beyond the bar.
"""

import math
import sys
from heapq import heapify, heappop, heappush
from typing import Any, Final

import numpy as np
from forms import Options, interval

from loadtest.arrays import Floats
from loadtest.capacity import search
from loadtest.capacity.results import Constraint, EntryLevel, Level, LimitLevel
from loadtest.contract import LIMIT_NAMES, LimitName
from loadtest.limits import LimiterSpec
from loadtest.limits.replays import replay
from loadtest.plan import AssumedLimits, Question, traffic_plans
from loadtest.scenario import Scenario
from loadtest.units import Limit

SEARCHES_OF_ONE: Final = 5
"""Number of searches of each setting."""
TOLERATED: Final = 0.1
"""A limit may reject this share of Poisson arrivals."""
QUEUES: Final = {"M/D/1": 1, "M/D/4": 4, "M/M/1": 1, "even arrivals": 1}
"""Workers of each queue."""
WIDTHS: Final = dict.fromkeys(("M/D/1", "M/D/4", "M/M/1", "mixed"), 0.25) | {"limits": 0.1, "even arrivals": 0.1}
COVERED: Final = 0.9
FAR: Final = Limit(200, 1)
"""The documented limit if no limit rejects requests. It is five times the fastest service."""
Seen = tuple[dict[LimitName, LimitLevel], bool]
"""The rates on each limit in a run, and whether requests waited for too long."""


def queue(arrivals: Floats, services: Floats, workers: int) -> Floats:
    """Response times in s with FIFO workers."""
    free = [0.0] * workers
    heapify(free)
    times = np.empty(len(arrivals))
    for index, (at, takes) in enumerate(zip(arrivals.tolist(), services.tolist(), strict=True)):
        end = max(at, heappop(free)) + takes
        heappush(free, end)
        times[index] = end - at
    return times


class Setting:
    """A service, its limits, and the scenario of a search."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        self.kind, self.rng = kind, rng
        self.stage_s = float(rng.choice([20, 30, 60]))
        self.capacity = rng.uniform(5, 40)
        self.poisson = "M" in kind or (kind in {"limits", "mixed"} and rng.random() < 0.5)
        self.workers = QUEUES.get(kind) or int(rng.integers(1, 9))
        self.mean_s = self.workers / self.capacity
        self.allowed_s = self.mean_s * rng.uniform(3, 10) * (3 if kind == "M/M/1" else 1)  # times the p95 of the work
        self.interval_s = self.mean_s * rng.choice([0.4, 0.7, 1.3])
        self.limits: dict[LimitName, Limit] = {}
        self.spec = LimiterSpec()
        if kind == "limits":
            self.spec = LimiterSpec(str(rng.choice(["fixed-window", "sliding-log", "token-bucket"])))  # type: ignore[arg-type]
            window = int(rng.choice([1, 2, 4]))
            self.limits[LimitName.SYNC_RUN] = Limit(max(5, round(self.capacity * window)), window)
        if kind == "mixed":
            polls = math.ceil(self.mean_s / self.interval_s) + 1
            for name, share in ((LimitName.RETRIEVAL, polls), (LimitName.SYNC_RUN, 0.5)):
                self.limits[name] = Limit(round(self.capacity * rng.uniform(0.6, 3) * share * 2) + 1, 2)
        self.truth = self._true_rate()

    def run(self, rate: float) -> Seen:
        """Simulate a run at a rate in operations/s."""
        arrivals = self._arrivals(rate)
        if self.kind == "limits":
            return {LimitName.SYNC_RUN: self._on(LimitName.SYNC_RUN, arrivals)}, False
        services = np.full(len(arrivals), self.mean_s)
        if self.kind == "M/M/1":
            services = self.rng.exponential(self.mean_s, len(arrivals))
        elif not self.kind.startswith("M/D"):
            services *= self.rng.uniform(0.8, 1.2, len(arrivals))
        times = queue(arrivals, services, self.workers)
        seen = {}
        if self.kind == "mixed":
            polls = np.ceil(times / self.interval_s)
            times = polls * self.interval_s
            sent = np.repeat(arrivals, polls.astype(int))
            first = np.repeat(np.cumsum(polls) - polls, polls.astype(int))
            sent = np.sort(sent + (np.arange(len(sent)) - first + 1) * self.interval_s)
            seen = {LimitName.RETRIEVAL: self._on(LimitName.RETRIEVAL, sent)}
            seen[LimitName.SYNC_RUN] = self._on(LimitName.SYNC_RUN, np.arange(0, self.stage_s, 2 / rate))
        slow = len(times) > 0 and float(np.quantile(times, 0.95, method="inverted_cdf")) > self.allowed_s
        return seen, slow

    def _arrivals(self, rate: float) -> Floats:
        if not self.poisson:
            return np.arange(0, self.stage_s, 1 / rate)
        return np.sort(self.rng.uniform(0, self.stage_s, self.rng.poisson(rate * self.stage_s)))

    def _on(self, name: LimitName, times: Floats) -> LimitLevel:
        accepted = replay(self.spec, self.limits[name], 1e6 + self.rng.uniform(0, 60) + times)
        throttled = 1 - float(accepted.mean()) if len(times) else 0.0
        return LimitLevel(sent_rate=max(len(times), 1) / self.stage_s, throttled_rate=throttled)

    def passes(self, seen: Seen) -> bool:
        """Whether the thresholds hold."""
        tolerated = TOLERATED if self.poisson and self.kind == "limits" else 0.0
        return not seen[1] and all(each.throttled_rate <= tolerated for each in seen[0].values())

    def _true_rate(self) -> float:
        low, high = self.capacity / 20, self.capacity * 4
        while high > low * 1.004:
            middle = math.sqrt(low * high)
            for runs in (40, 500):
                share = np.mean([self.passes(self.run(middle)) for _ in range(runs)])
                if not 0.25 < share < 0.75:
                    break
            low, high = (middle, high) if share > 0.5 else (low, middle)
        return math.sqrt(low * high)

    def scenario(self, rate: float) -> Scenario:
        """Return the scenario with a rate in operations/s."""
        stages = [{"name": "it", "rate": f"{rate:.6f}/s", "duration": f"{self.stage_s:g}s"}]
        entry = {"operation": "sync_run", "workflow": "echo", "stages": stages}
        traffic: dict[str, Any] = {"it": entry | {"arrivals": "poisson" if self.poisson else "even"}}
        require = "throttled_rate <= 0.1" if self.poisson and self.kind == "limits" else "requests.throttled == 0"
        if self.kind == "mixed":
            polling = {"interval": f"{self.interval_s * 1000:.3f}ms", "give_up": "600s"}
            beside = [stages[0] | {"rate": f"{rate / 2:.6f}/s"}]
            traffic["beside"] = entry | {"stages": beside}
            traffic["it"] |= {"operation": "async_run", "polling": polling}
        return Scenario.model_validate({"title": "t", "traffic": traffic, "threshold": [{"require": require}]})

    def level(self, multiplier: float, seen: Seen) -> Level:
        """Return the level of a run."""
        passed, (limits, slow) = self.passes(seen), seen
        worst = max(limits, key=lambda name: limits[name].throttled_rate, default=None)
        limit = worst if worst is not None and limits[worst].throttled_rate > 0 and not passed else None
        constraint = Constraint.POLL_BUDGET if limit == LimitName.RETRIEVAL else Constraint.LIMIT
        return Level(
            multiplier=multiplier,
            directory="",
            outcome="holds" if passed else "breaks",
            broken=(),
            stage_s=self.stage_s,
            requests=0,
            entries={"it": _entry(1.0 + slow, max((each.throttled_rate for each in limits.values()), default=0.0))},
            limits=limits,
            constraint=None if passed else Constraint.SERVICE if limit is None else constraint,
            limit=limit,
        )


def _entry(response: float, throttled_rate: float) -> EntryLevel:
    return EntryLevel(
        operation="sync_run",
        offered_rate=1.0,
        response_p50_ms=None,
        response_p95_ms=None,
        execution_p50_ms=response,
        throttled_rate=throttled_rate,
        requests_per_operation=None,
    )


def searched(
    setting: Setting, rng: np.random.Generator, runs: int, wanted: search.Precision
) -> tuple[search.RateRange, list[Level]]:
    """Search a setting from a rate up to four times too slow or too fast. Half of the documented limits are wrong."""
    base = setting.truth * 2 ** rng.uniform(-2, 2)
    scenario, documented = setting.scenario(base), dict.fromkeys(LIMIT_NAMES, FAR)
    for name, limit in setting.limits.items():
        wrong = rng.uniform(1.3, 4) if rng.random() < 0.5 else 1
        documented[name] = Limit(round(limit.count * wrong), limit.window)
    assumed = AssumedLimits(documented, setting.spec)
    plans = traffic_plans(scenario, assumed, 1)
    forecast = search.LimitForecast(Question(scenario, plans, assumed, start=0.0, job_s=setting.mean_s))
    stage = search.StageCounts(base * setting.stage_s, setting.poisson)
    levels: list[Level] = []
    guesses = forecast.guesses() if setting.limits else []
    while len(levels) < runs and (next_ := search.next_multiplier(levels, guesses, stage, wanted)) is not None:
        levels.append(setting.level(next_, setting.run(next_ * base)))
        guesses = forecast.guesses(search.with_causes(levels)) if setting.limits else []
    found = search.estimate(levels, guesses, stage)
    return search.RateRange(*(each * base / setting.truth for each in found)), levels


def main() -> int:
    """Search settings of each kind, and print a row for each."""
    parser = Options(__doc__)
    parser.add_size("--kinds", [kind for kind in WIDTHS if kind != "mixed"], list(WIDTHS), "kinds of settings")
    parser.add_size("--searches", 40, 100, "searches of each kind")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--minutes", action="store_true", help="use the precision of a search with --minutes")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--verbose", action="store_true", help="print a line for each range without the true rate")
    options = parser.begin()
    print("| setting | searches | contain the true rate | median width | 90 % of widths | mean levels |")
    print("| --- | --- | --- | --- | --- | --- |")
    wanted = search.Precision(0.04, repeats=True) if options.minutes else search.Precision()
    missed = False
    for kind in options.kinds:
        rng = np.random.default_rng([options.seed, list(WIDTHS).index(kind)])
        ranges, counts = [], []
        for number in range(options.searches):
            if number % SEARCHES_OF_ONE == 0:
                setting = Setting(kind, rng)
            found, levels = searched(setting, rng, options.runs, wanted)
            ranges.append(found)
            counts.append(len(levels))
            if options.verbose and not found.low <= 1 <= found.high:
                about = [(round(each.multiplier, 3), each.outcome, each.limit) for each in levels]
                print(kind, found, setting.truth, about, vars(setting), flush=True)
        contain = sum(each.low <= 1 <= each.high for each in ranges)
        widths = np.array([each.width for each in ranges])
        row = (
            kind,
            len(ranges),
            contain,
            *(f"{np.quantile(widths, q):.1%}" for q in (0.5, 0.9)),
            f"{np.mean(counts):.1f}",
        )
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
        narrow = int((widths <= WIDTHS[kind]).sum())
        for count, wanted_share in ((contain, COVERED), (narrow, 0.5)):
            share = count / len(ranges) if options.full else interval(count, len(ranges))[1]
            missed |= share < wanted_share
    print("A bar is missed." if missed else "All bars hold.")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
