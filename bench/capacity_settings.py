"""How often a capacity search is right, and what it costs: settings whose answer follows from their numbers.

Each setting is a scenario of one entry (sync runs, or jobs polled at a fixed interval) against limits in wall-aligned
windows and a queue of c workers, in simulated time; the start is anywhere in a window. By hand, with T the seconds of a
level, D the mean time (each takes 0.8 to 1.2 D), I the poll interval, and X the highest response time (p95) allowed:

- limit: N / W;
- poll budget: N / W divided by the polls of a job, D / I rounded up;
- service: arrival t waits t(ρ - 1) s, so that p95 is met at ρ = 1 + (x - D) / (0.95 T); x is X, for jobs the last poll
  within X. Jobs that wait are polled, too: c + (λ - c/D)T of them at the end, each 1/I times a second, within the limit
  of retrievals. The rate is ρc / D.

The lowest is the answer. Settings in which two are less than 15 % apart are left out: neither is *the* constraint.
Plain bisection is the same search without any model: doubling from the scenario's own rate, then halving (in log-rate)
to the same 10 %. Run: ``python bench/capacity_settings.py``; ``--shard 1/4`` makes every fourth setting.
"""

import argparse
import json
import math
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent))
from loadtest.assumed_limits import AssumedLimits
from loadtest.capacity import models, search
from loadtest.capacity.levels import read_level
from loadtest.capacity.queue import with_causes, workers_guess
from loadtest.capacity.results import Constraint, Guess, Level
from loadtest.contract import LimitName
from loadtest.plan import Question, traffic_plans
from loadtest.scenario import Scenario

APART: Final = 1.15
MOST_LEVELS: Final = 20
DRAIN_S: Final = 30.0


@dataclass(frozen=True)
class Setting:
    """A service and what is asked of it; limits as (N, W)."""

    jobs: bool
    limits: dict[LimitName, tuple[int, int]]
    workers: int
    time_s: float
    interval_s: float
    allowed_s: float
    stage_s: float
    rate: float
    phase: float

    def ceilings(self) -> dict[tuple[Constraint, LimitName | None], float]:
        """The rate at which each constraint stops more, by hand."""
        per_s = {name: count / window for name, (count, window) in self.limits.items()}
        reach = self.allowed_s
        found: dict[tuple[Constraint, LimitName | None], float] = {}
        if self.jobs:
            reach = math.floor(self.allowed_s / self.interval_s + 1e-9) * self.interval_s
            polls = math.ceil(self.time_s / self.interval_s)
            found[Constraint.LIMIT, LimitName.ASYNC_SUBMIT] = per_s[LimitName.ASYNC_SUBMIT]
            found[Constraint.POLL_BUDGET, LimitName.RETRIEVAL] = per_s[LimitName.RETRIEVAL] / polls
        else:
            found[Constraint.LIMIT, LimitName.SYNC_RUN] = per_s[LimitName.SYNC_RUN]
        done = self.workers / self.time_s
        load = 1 + (reach - self.time_s) / (0.95 * self.stage_s)
        if self.jobs:
            waiting = per_s[LimitName.RETRIEVAL] * self.interval_s - self.workers
            load = max(1.0, min(load, 1 + waiting / (done * self.stage_s)))
        found[Constraint.SERVICE, None] = load * done
        return found

    def scenario(self) -> Scenario:
        """The setting as a scenario."""
        entry: dict[str, Any] = {"operation": "sync_run", "workflow": "sleep"}
        if self.jobs:
            entry |= {"operation": "async_run", "polling": {"interval": f"{self.interval_s:.6f}s"}}
        entry["parameters"] = {"ms": self.time_s * 1e3}
        entry["stages"] = [{"name": "it", "rate": f"{self.rate:.6f}/s", "duration": f"{self.stage_s:g}s"}]
        about = {"traffic": "it", "stage": "it"}
        require = ("requests.throttled == 0", f"response_time.p95 <= {self.allowed_s * 1e3:.3f}ms")
        return Scenario.model_validate(
            {
                "title": "t",
                "target": {
                    "workers": self.workers,
                    "enforce": {name: f"{count}/{window}s" for name, (count, window) in self.limits.items()},
                },
                "traffic": {"it": entry},
                "threshold": [{**about, "require": each} for each in require],
            }
        )


def drawn(rng: random.Random) -> Setting:
    """A setting in which one constraint is clearly the lowest, each as often as the others of its operation."""
    while True:
        jobs = rng.random() < 0.6
        time_s = rng.uniform(0.05, 1.5)
        interval_s = time_s * rng.choice([0.27, 0.4, 0.7, 1.3])
        # The time of a job varies by a fifth: it must not change how many polls it needs.
        if jobs and math.ceil(time_s * 0.8 / interval_s) != math.ceil(time_s * 1.2 / interval_s):
            continue
        window, answer = rng.choice([1, 2, 5]), rng.uniform(20, 100)
        low = rng.choice(["submit", "poll", "work"] if jobs else ["submit", "work"])
        rates = {each: answer * (1 if each == low else rng.uniform(APART, 5)) for each in ("submit", "poll", "work")}
        limits = {name: (round(rates["submit"] * window), window) for name in LimitName}
        polls = math.ceil(time_s / interval_s)
        limits[LimitName.RETRIEVAL] = (round(rates["poll"] * polls * window), window)
        setting = Setting(
            jobs=jobs,
            limits=limits,
            workers=max(1, round(rates["work"] * time_s)),
            time_s=time_s,
            interval_s=interval_s,
            allowed_s=time_s * 1.3 + rng.uniform(0.2, 0.6) + 2 * interval_s * jobs,
            stage_s=10.0 * rng.choice([1, 2]),
            rate=answer * 2 ** rng.uniform(-2, 2),
            phase=rng.uniform(0, window),
        )
        first, second, *_ = sorted(setting.ceilings().values())
        if second / first >= APART:
            return setting


class Simulation:
    """One level of a setting, on a clock of its own."""

    def __init__(self, setting: Setting, assumed: AssumedLimits, multiplier: float, seed: int) -> None:
        self.setting, self.rng = setting, random.Random(seed)
        self.limiters = dict(zip(LimitName, (row[0] for row in assumed.limiters(1)), strict=True))
        self.free = [0.0] * setting.workers
        self.sent: Counter[LimitName] = Counter()
        self.refused: Counter[LimitName] = Counter()
        self.times: list[float] = []
        self.executions: list[float] = []
        self.throttled = 0
        self.offered = math.floor(setting.rate * multiplier * setting.stage_s)
        self.rate = setting.rate * multiplier

    def run(self) -> dict[str, Any]:
        """Offer the stage; gives what ``metrics.json`` would say of it, as far as a search reads it."""
        due: list[tuple[float, int, float, float]] = [
            (k / self.rate, k, k / self.rate, 0.0) for k in range(self.offered)
        ]
        first = LimitName.ASYNC_SUBMIT if self.setting.jobs else LimitName.SYNC_RUN
        while due:
            now, k, intended, done = heappop(due)
            if done:  # a poll
                if self._passes(LimitName.RETRIEVAL, now) and now >= done:
                    self.times.append(now - intended)
                elif now < self.setting.stage_s + DRAIN_S:
                    heappush(due, (now + self.setting.interval_s, k, intended, done))
                else:
                    self.times.append(math.inf)
            elif not self._passes(first, now):
                self.throttled += 1
            else:
                ended = self._work(now)
                if self.setting.jobs:
                    heappush(due, (now + self.setting.interval_s, k, intended, ended))
                else:
                    self.times.append(ended - intended)
        return self._metrics()

    def _passes(self, limit: LimitName, now: float) -> bool:
        allowed = self.limiters[limit].decide(1e6 + self.setting.phase + now).allowed
        self.sent[limit] += 1
        self.refused[limit] += not allowed
        return allowed

    def _work(self, now: float) -> float:
        """The end of work that arrives now: workers take it in order."""
        took = self.setting.time_s * self.rng.uniform(0.8, 1.2)
        ended = max(now, heappop(self.free)) + took
        heappush(self.free, ended)
        self.executions.append(took)
        return ended

    def _metrics(self) -> dict[str, Any]:
        p50, p95 = _rank(self.times, 0.5), _rank(self.times, 0.95)
        refused, late = sum(self.refused.values()), p95 is None or p95 > self.setting.allowed_s
        thresholds = [
            {"require": "requests.throttled == 0", "judgement": "fail" if refused else "pass"},
            {"require": "response_time.p95", "judgement": "fail" if late else "pass"},
        ]
        stage = {
            "operations": {"offered_rate": self.rate},
            "throttled_rate": self.throttled / max(1, self.offered),
            "requests_per_operation": self.sent.total() / max(1, self.offered),
            "response_time_ms": {"p50": _ms(p50), "p95": _ms(p95)},
            "execution_time_ms": {"p50": _ms(_rank(self.executions, 0.5))},
        }
        return {
            "verdict": "fail" if refused or late else "pass",
            "validity": [],
            "thresholds": thresholds,
            "limits": [
                {"limit": name, "sent": sent, "throttled": self.refused[name]} for name, sent in self.sent.items()
            ],
            "overall": {"requests": {"sent": self.sent.total()}},
            "traffic": {"it": {"stages": {"it": stage}}},
        }


def _rank(values: list[float], q: float) -> float | None:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else None


def _ms(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value * 1e3


def searched(
    setting: Setting, scenario: Scenario, *, with_models: bool, workers_known: bool = False
) -> tuple[list[Level], list[Guess]]:
    """The levels that a search makes, and its guesses."""
    assumed = AssumedLimits.for_scenario(scenario, embedded=True)
    question = Question(scenario, traffic_plans(scenario, assumed, 1), assumed, start=0.0)
    guesses = models.limit_guesses(question, models.tolerances(scenario)) if with_models else []
    if with_models and workers_known and (guess := workers_guess(scenario, {"it": setting.rate}, assumed, 1)):
        guesses.append(guess)
    expected, measured, levels = guesses, list[Level](), list[Level]()
    with tempfile.TemporaryDirectory() as folder:
        while (multiplier := search.next_multiplier(levels, guesses)) is not None and len(levels) < MOST_LEVELS:
            seen = Simulation(setting, assumed, multiplier, len(levels)).run()
            (Path(folder) / "metrics.json").write_text(json.dumps(seen))
            measured.append(read_level(Path(folder), name="", multiplier=multiplier, stage="it", scenario=scenario))
            levels = with_causes(measured, scenario, assumed, 1)
            if with_models:
                guesses = [*expected, *models.learned_guesses(levels, assumed, 1, scenario)]
    return levels, guesses


def main() -> None:
    """Search every setting with and without models, and print a row for each constraint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=100)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--shard", default="1/1", metavar="I/N")
    parser.add_argument("--workers-known", action="store_true", help="as of an embedded API, whose settings are known")
    parser.add_argument("--verbose", action="store_true", help="also a line for each setting that is missed")
    options = parser.parse_args()
    shard, shards = map(int, options.shard.split("/"))
    rng = random.Random(options.seed)
    settings = [drawn(rng) for _ in range(options.settings)][shard - 1 :: shards]
    rows: dict[str, Counter[str]] = {each: Counter() for each in (*Constraint, "all") if each != Constraint.GENERATOR}
    for number, setting in enumerate(settings):
        scenario = setting.scenario()
        (constraint, limit), answer = min(setting.ceilings().items(), key=lambda item: item[1])
        levels, guesses = searched(setting, scenario, with_models=True, workers_known=options.workers_known)
        plain, none = searched(setting, scenario, with_models=False)
        high = search.bracket(levels).high
        found = (search.estimate(levels, guesses) or math.nan) * setting.rate
        halved = (search.estimate(plain, none) or math.nan) * setting.rate
        named = None if high is None else (high.constraint, high.limit)
        for row in (rows[constraint], rows["all"]):
            row["settings"] += 1
            row["constraint right"] += named == (constraint, limit)
            row["rate within 5 %"] += abs(found / answer - 1) <= 0.05
            row["plain within 5 %"] += abs(halved / answer - 1) <= 0.05
            row["runs"] += len(levels)
            row["plain runs"] += len(plain)
            row["requests"] += sum(level.requests for level in levels)
            row["plain requests"] += sum(level.requests for level in plain)
        if options.verbose and (named != (constraint, limit) or not abs(found / answer - 1) <= 0.05):
            tried = [(round(each.multiplier * setting.rate, 2), each.outcome, each.constraint) for each in levels]
            print(number, constraint, limit, f"by hand {answer:.3f}, found {found:.3f}", named, tried, setting)
    print("| constraint | " + " | ".join(rows["all"]) + " | requests ÷ plain |")
    for name, row in rows.items():
        share = row["requests"] / max(1, row["plain requests"])
        print(f"| {name} | " + " | ".join(f"{value:,}" for value in row.values()) + f" | {share:.0%} |")


if __name__ == "__main__":
    main()
