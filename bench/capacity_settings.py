"""How often a capacity search is right, and what it costs: settings whose answer follows from their numbers.

``capacity_by_hand`` has the settings and their answers; here they are searched in simulated time. Plain bisection is
the same search without any model: doubling from the scenario's own rate, then halving (in log-rate) to the same 10 %.
Run: ``python bench/capacity_settings.py``; ``--shard 1/4`` makes every fourth setting. Exits with 1
where a bar is missed: 98 % of the constraints and of the rates (± 5 %) right, with 60 % of plain bisection's requests.
"""

import argparse
import json
import math
import random
import sys
import tempfile
from collections import Counter
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, Final

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))
from capacity_by_hand import TOLERATED, Setting, drawn

from loadtest.assumed_limits import AssumedLimits
from loadtest.capacity import models, search
from loadtest.capacity.models import with_causes, workers_guess
from loadtest.capacity.results import Constraint, Guess, Level, read_level
from loadtest.contract import LimitName
from loadtest.plan import Question, traffic_plans
from loadtest.plan.stages import schedules
from loadtest.scenario import Scenario
from loadtest.scenario.parse import at_rate

MOST_LEVELS: Final = 20
DRAIN_S: Final = 30.0
AT_ONCE_S: Final = 0.02
BARS: Final = (0.98, 0.98, 0.6)
"""Constraints right, rates right, requests of plain bisection's."""


class Entry:
    """What is seen of a traffic entry."""

    def __init__(self) -> None:
        self.offered = self.throttled = self.sent = self.refused = 0
        self.times: list[float] = []
        self.executions: list[float] = []

    def figures(self, stage_s: float) -> dict[str, Any]:
        """What ``metrics.json`` says of it."""
        return {
            "operations": {"offered_rate": self.offered / stage_s},
            "throttled_rate": self.throttled / max(1, self.offered),
            "requests_per_operation": self.sent / max(1, self.offered),
            "response_time_ms": {"p50": _ms(_rank(self.times, 0.5)), "p95": _ms(_rank(self.times, 0.95))},
            "execution_time_ms": {"p50": _ms(_rank(self.executions, 0.5))},
        }


class Simulation:
    """One level of a setting, on a clock of its own."""

    def __init__(self, setting: Setting, scenario: Scenario, assumed: AssumedLimits, seed: int) -> None:
        self.setting, self.rng = setting, random.Random(seed)
        self.stage_s = scenario.duration
        self.limiters = dict(zip(LimitName, (row[0] for row in assumed.limiters(1)), strict=True))
        self.free = [0.0] * setting.workers
        self.sent: Counter[LimitName] = Counter()
        self.refused: Counter[LimitName] = Counter()
        self.entries = {name: Entry() for name in scenario.traffic}
        self.due: list[tuple[float, int, str, float, float]] = []
        for schedule in schedules(traffic_plans(scenario, assumed, 1), scenario.seed):
            times = [arrival.intended_ns / 1e9 for arrival in schedule.share()]
            self.due += [(at, k, schedule.traffic, at, 0.0) for k, at in enumerate(times)]
            self.entries[schedule.traffic].offered = len(times)
        heapify(self.due)

    def run(self) -> dict[str, Any]:
        """Offer the stage; gives what ``metrics.json`` would say of it, as far as a search reads it."""
        while self.due:
            now, k, name, intended, done = heappop(self.due)
            entry = self.entries[name]
            if done:  # a poll
                if self._passes(LimitName.RETRIEVAL, now, entry) and now >= done:
                    entry.times.append(now - intended)
                elif now < self.stage_s + DRAIN_S:
                    heappush(self.due, (now + self.setting.interval_s, k, name, intended, done))
                else:
                    entry.times.append(math.inf)
                continue
            job = self.setting.jobs and name == "it"
            if not self._passes(LimitName.ASYNC_SUBMIT if job else LimitName.SYNC_RUN, now, entry):
                entry.throttled += 1
            elif job:
                heappush(self.due, (now + self.setting.interval_s, k, name, intended, self._work(now, entry)))
            else:
                ended = self._work(now, entry) if name == "it" else now + AT_ONCE_S
                entry.times.append(ended - intended)
        return self._metrics()

    def _passes(self, limit: LimitName, now: float, entry: Entry) -> bool:
        allowed = self.limiters[limit].decide(1e6 + self.setting.phase + now).allowed
        for count, by in ((self.sent, 1), (self.refused, not allowed)):
            count[limit] += by
        entry.sent, entry.refused = entry.sent + 1, entry.refused + (not allowed)
        return allowed

    def _work(self, now: float, entry: Entry) -> float:
        """The end of work that arrives now: workers take it in order."""
        took = self.setting.time_s * self.rng.uniform(0.8, 1.2)
        ended = max(now, heappop(self.free)) + took
        heappush(self.free, ended)
        entry.executions.append(took)
        return ended

    def _metrics(self) -> dict[str, Any]:
        thresholds = []
        for name, entry in self.entries.items():
            share = entry.throttled / max(1, entry.offered)
            holds = share <= TOLERATED if self.setting.poisson else not entry.refused
            thresholds.append({"traffic": name, "require": "throttled", "judgement": "pass" if holds else "fail"})
        p95 = _rank(self.entries["it"].times, 0.95)
        late = p95 is None or p95 > self.setting.allowed_s
        thresholds.append({"traffic": "it", "require": "p95", "judgement": "fail" if late else "pass"})
        return {
            "verdict": "fail" if any(each["judgement"] == "fail" for each in thresholds) else "pass",
            "validity": [],
            "thresholds": thresholds,
            "limits": [
                {"limit": name, "sent": sent, "throttled": self.refused[name]} for name, sent in self.sent.items()
            ],
            "overall": {"requests": {"sent": self.sent.total()}},
            "traffic": {n: {"stages": {"it": e.figures(self.stage_s)}} for n, e in self.entries.items()},
        }


def _rank(values: list[float], q: float) -> float | None:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else None


def _ms(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value * 1e3


def searched(setting: Setting, *, with_models: bool, workers_known: bool = False) -> tuple[list[Level], list[Guess]]:
    """The levels that a search makes, and its guesses."""
    loaded = setting.scenario()
    scenario = loaded.scenario
    assumed = AssumedLimits.for_scenario(scenario, embedded=True)
    question = Question(scenario, traffic_plans(scenario, assumed, 1), assumed, start=0.0)
    guesses = models.limit_guesses(question, models.tolerances(scenario)) if with_models else []
    rates = {name: setting.rate * (1.0 if name == "it" else setting.beside) for name in scenario.traffic}
    if with_models and workers_known and (guess := workers_guess(scenario, rates, assumed, 1)):
        guesses.append(guess)
    expected, measured, levels = guesses, list[Level](), list[Level]()
    with tempfile.TemporaryDirectory() as folder:
        while len(levels) < MOST_LEVELS:
            if with_models:
                run = search.next_run(levels, guesses, scenario, rates)
            else:
                multiplier = search.next_multiplier(levels, guesses)
                run = None if multiplier is None else search.NextRun(multiplier, None)
            if run is None:
                break
            faster = at_rate(loaded, run.multiplier, run.scout_s).scenario
            seen = Simulation(setting, faster, assumed, len(levels)).run()
            (Path(folder) / "metrics.json").write_text(json.dumps(seen))
            level = read_level(Path(folder), name="", multiplier=run.multiplier, stage="it", scenario=faster)
            measured.append(msgspec.structs.replace(level, scout=run.scout_s is not None))
            levels = with_causes(measured, scenario, assumed, 1)
            if with_models:
                guesses = [*expected, *models.learned_guesses(levels, assumed, 1, scenario)]
    return levels, guesses


def main() -> int:
    """Search every setting with and without models, and print a row for each constraint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=100)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--shard", default="1/1", metavar="I/N")
    parser.add_argument("--workers-unknown", action="store_true", help="as of a service that is not ours")
    parser.add_argument("--verbose", action="store_true", help="also a line for each setting that is missed")
    options = parser.parse_args()
    shard, shards = map(int, options.shard.split("/"))
    rng = random.Random(options.seed)
    settings = [drawn(rng) for _ in range(options.settings)][shard - 1 :: shards]
    rows: dict[str, Counter[str]] = {each: Counter() for each in Constraint}
    rows |= {each: Counter() for each in [*sorted({setting.kind for setting in settings}), "all"]}
    for number, setting in enumerate(settings):
        (constraint, limit), answer = min(setting.ceilings().items(), key=lambda item: item[1])
        levels, guesses = searched(setting, with_models=True, workers_known=not options.workers_unknown)
        plain, none = searched(setting, with_models=False)
        high = search.bracket(levels).high
        found = (search.estimate(levels, guesses) or math.nan) * setting.rate
        halved = (search.estimate(plain, none) or math.nan) * setting.rate
        named = None if high is None else (high.constraint, high.limit)
        for row in (rows[constraint], rows[setting.kind], rows["all"]):
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
            about = f"by hand {answer:.3f}, found {found:.3f}"
            print(number, setting.kind, constraint, limit, about, named, tried, setting, flush=True)
    return report(rows)


def report(rows: dict[str, Counter[str]]) -> int:
    """Print the rows and which bars are missed; gives the exit code."""
    print("| what | " + " | ".join(rows["all"]) + " | requests ÷ plain |")
    for name, row in rows.items():
        if row:
            share = row["requests"] / row["plain requests"]
            print(f"| {name} | " + " | ".join(f"{value:,}" for value in row.values()) + f" | {share:.0%} |")
    every = rows["all"]
    right = [every[what] / every["settings"] for what in ("constraint right", "rate within 5 %")]
    missed = [f"{share:.0%}" for share, bar in zip(right, BARS, strict=False) if share < bar]
    share = every["requests"] / every["plain requests"]
    missed += [f"{share:.0%} of the requests"] if share > BARS[2] else []
    print(f"Missed: {', '.join(missed)}" if missed else "All bars hold.")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
