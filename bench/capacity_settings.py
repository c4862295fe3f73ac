"""How often a capacity search is right, and what it costs: settings whose answer follows from their numbers.

Each setting is a scenario (sync runs, or jobs polled at a fixed interval; sometimes sync runs beside jobs) against
limits and a queue of c workers for the first of these, in simulated time; the start is anywhere in a window. By hand,
with T the seconds of a level, D the mean time (each takes 0.8 to 1.2 D), I the poll interval, and X the highest
response time (p95) allowed, a limit of N in W lets through

- in wall-aligned windows and a sliding log: N / W;
- from a token bucket of burst B: N / W + B / T;
- of Poisson arrivals in wall-aligned windows, of which a tenth may be refused: the mean μ / W of a Poisson count X with
  E max(0, X - N) = μ / 10.

Of runs and submits that is the answer; of polls it is divided by the polls of a job, D / I rounded up. The service:

- arrival t waits t(ρ - 1) s, so that p95 is met at ρ = 1 + (x - D) / (0.95 T); x is X, for jobs the last poll within X.
  Jobs that wait are polled, too: c + (λ - c/D)T of them at the end, each 1/I times a second, within the limit of
  retrievals. The rate is ρc / D.

The lowest is the answer. Settings in which two are less than 15 % apart are left out: neither is *the* constraint.
Plain bisection is the same search without any model: doubling from the scenario's own rate, then halving (in log-rate)
to the same 10 %. Run: ``python bench/capacity_settings.py``; ``--shard 1/4`` makes every fourth setting. Exits with 1
where a bar is missed: 98 % of the constraints and of the rates (± 5 %) right, with 60 % of plain bisection's requests.
"""

import argparse
import json
import math
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, Final

import msgspec
from scipy.optimize import brentq
from scipy.stats import poisson

sys.path.insert(0, str(Path(__file__).parent.parent))
from loadtest.assumed_limits import AssumedLimits
from loadtest.capacity import models, search
from loadtest.capacity.levels import read_level
from loadtest.capacity.queue import stage_s, with_causes, workers_guess
from loadtest.capacity.results import Constraint, Guess, Level
from loadtest.contract import LimitName
from loadtest.plan import Question, traffic_plans
from loadtest.plan.stages import schedules
from loadtest.scenario import Scenario
from loadtest.scenario.parse import LoadedScenario, at_rate

APART: Final = 1.15
MOST_LEVELS: Final = 20
DRAIN_S: Final = 30.0
TOLERATED: Final = 0.1
"""Part of Poisson arrivals that may be refused: none is no question that has an answer."""
AT_ONCE_S: Final = 0.02
BARS: Final = (0.98, 0.98, 0.6)
"""Constraints right, rates right, requests of plain bisection's."""


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
        reach = self.allowed_s
        found: dict[tuple[Constraint, LimitName | None], float] = {}
        if self.jobs:
            reach = math.floor(self.allowed_s / self.interval_s + 1e-9) * self.interval_s
            polls = math.ceil(self.time_s / self.interval_s)
            found[Constraint.LIMIT, LimitName.ASYNC_SUBMIT] = self.through(LimitName.ASYNC_SUBMIT)
            found[Constraint.POLL_BUDGET, LimitName.RETRIEVAL] = self.through(LimitName.RETRIEVAL) / polls
        if self.beside or not self.jobs:
            found[Constraint.LIMIT, LimitName.SYNC_RUN] = self.through(LimitName.SYNC_RUN) / (self.beside or 1)
        done = self.workers / self.time_s
        load = 1 + (reach - self.time_s) / (0.95 * self.stage_s)
        if self.jobs:
            waiting = self.through(LimitName.RETRIEVAL) * self.interval_s - self.workers
            load = max(1.0, min(load, 1 + waiting / (done * self.stage_s)))
        found[Constraint.SERVICE, None] = load * done
        return found

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
        self.stage_s = stage_s(scenario)
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
                run = None if multiplier is None else search.Run(multiplier, None)
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
