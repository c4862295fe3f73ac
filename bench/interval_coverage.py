"""Coverage of a run's intervals: 95 % intervals from blocks, and ranges over the server's phases.

``bench/README.md`` has the last results. ``python bench/interval_coverage.py`` simulates runs of each regime. It fails
if stated intervals contain the truth too rarely, or nearly always. ``--seed`` sets another seed. ``--records FOLDER``
takes real runs instead: every run directory below the folder. They must have the same scenario and seed.

Short form: 200 runs of each regime instead of 1,000. A share then misses if its whole 95 % interval is beyond the bar.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from forms import Options, interval
from numpy.typing import NDArray

from loadtest.analysis.columns import tally
from loadtest.analysis.distribution import distribution
from loadtest.analysis.findings import find
from loadtest.analysis.intervals import THROTTLED_RATE, FoundInterval, percentile_interval, share_interval
from loadtest.analysis.rejections.phases import extent, rejected_by_phase
from loadtest.analysis.run_record import load_record
from loadtest.analysis.time_blocks import RESPONSE, BinnedTimes, StageBlocks, grid
from loadtest.arrays import Floats
from loadtest.limits import LimiterSpec
from loadtest.limits.replays import VECTORISED, replay
from loadtest.units import Limit

Flags = NDArray[np.bool_]

RUNS: Final = 1000
SEED: Final = 20261126
"""Seed of the runs with intervals. The truth comes from runs of the next seed."""
TRUTH_RUNS: Final = 2000
LEAST: Final = 0.90
MOST: Final = 0.99
METRICS: Final = ("429 rate", "goodput", "p50", "p95")


class Regime(NamedTuple):
    """The behaviour of a simulated stage. The sends are the same in each run.

    Attributes:
        about: description.
        seconds: duration of the stage.
        rate: operations a second.
        correlation_s: seconds until the correlation of the service's pace is 1/e; 0 for independent requests.
        shared: share of the variance of log times that all requests of a moment have in common.
        errors: share of the operations that fail.
        refused: maximum share of operations that get 429 when the service is busy.
        stalls: mean seconds between two stalls, and mean seconds of a stall. Requests wait until it ends.
        steps: mean seconds of usual times, mean seconds of longer times, and what these add to the logarithm of times.
        bar: whether the bench fails if too few intervals contain the truth.
    """

    about: str
    seconds: float = 60.0
    rate: float = 10.0
    correlation_s: float = 0.0
    shared: float = 0.0
    errors: float = 0.03
    refused: float = 0.2
    stalls: tuple[float, float] | None = None
    steps: tuple[float, float, float] | None = None
    bar: bool = True


REGIMES: Final = {
    "independent": Regime("requests know nothing of each other"),
    "1 s": Regime("pace, errors and refusals hang together for 1 s", correlation_s=1, shared=0.5),
    "3 s": Regime("the same for 3 s, a twentieth of the stage", correlation_s=3, shared=0.5),
    "long": Regime("3 s in a stage of 5 minutes, 20/s", 300, 20, correlation_s=3, shared=0.5),
    "short": Regime("0.3 s in a stage of 20 s, 20/s", 20, 20, correlation_s=0.3, shared=0.5),
    "rare": Regime("1 s, three errors in a thousand", correlation_s=1, shared=0.5, errors=0.003),
    "stalls": Regime("a stall of 0.2 s every 3 s, failing a third", stalls=(3.0, 0.2)),
    "10 s": Regime("for 10 s, a sixth of the stage", correlation_s=10, shared=0.5),
    "steps": Regime("times a half longer by steps, every 5 s on average", steps=(5.0, 5.0, 0.4)),
    "bursts": Regime("a second in ten of times three times as long", steps=(9.0, 1.0, 1.2)),
    "long 10 s": Regime("10 s in a stage of 5 minutes", 300, correlation_s=10, shared=0.5),
    "20 s": Regime("20 s, a third of the stage: too short, no bar", correlation_s=20, shared=0.5, bar=False),
}


class Windows(NamedTuple):
    """A fixed window by the server's clock, and even sends.

    Attributes:
        times: offered rate ÷ limit.
        count: requests per window.
        window_s: length of a window.
        seconds: duration of the stage. A stage at 80 % of the limit comes before it and lasts a window.
        spec: the limiter's specification.
    """

    times: float
    count: int
    window_s: float
    seconds: float
    spec: LimiterSpec = LimiterSpec()


WINDOWS: Final = {
    "1.1 times 100 per minute, 2 min": Windows(1.1, 100, 60, 120),
    "2.5 times 100 per minute, 2 min": Windows(2.5, 100, 60, 120),
    "1.2 times 1000 per minute, 2 min": Windows(1.2, 1000, 60, 120),
    "2 times 50 per 5 s, 32 s": Windows(2, 50, 5, 32),
    "1.5 times 100 per minute, 2 min, sliding counter": Windows(1.5, 100, 60, 120, LimiterSpec("sliding-counter")),
}
_LAG_S: Final = 0.0003
"""Mean lateness of a send in s. A request also travels for this time on average."""


class Runs(NamedTuple):
    """Simulated runs. Each row is a run.

    Attributes:
        seconds: times when operations are sent.
        took: duration of each operation in ms.
        refused: whether each operation got 429.
        failed: whether each operation failed or timed out.
    """

    seconds: Floats
    took: Floats
    refused: Flags
    failed: Flags

    @property
    def ok(self) -> Flags:
        """Whether each operation succeeded."""
        return ~(self.refused | self.failed)


def simulate(regime: Regime, runs: int, seed: int) -> Runs:
    """Simulate runs of a regime."""
    random = np.random.default_rng(seed)
    n = round(regime.seconds * regime.rate)
    when = np.arange(n) / regime.rate
    pace = np.sqrt(regime.shared) * _autoregressive(random, runs, n, regime)
    if regime.steps is not None:
        pace = pace + 2 * regime.steps[2] * _steps(random, runs, n, regime)
    took = 100 * np.exp(0.5 * (pace + np.sqrt(1 - regime.shared) * random.normal(size=(runs, n))))
    busy = np.sqrt(2) * pace
    failed = random.random((runs, n)) < np.minimum(regime.errors * np.exp(busy - regime.shared), 0.5)
    refused = random.random((runs, n)) < regime.refused / (1 + np.exp(-1.5 * busy))
    if regime.stalls is not None:
        for run in range(runs):
            for begin, end in _stalls(random, regime.seconds, *regime.stalls):
                inside = (when >= begin) & (when < end)
                took[run, inside] = np.maximum(took[run, inside], 1000 * (end - when[inside]))
                failed[run, inside] |= random.random(int(inside.sum())) < 1 / 3
    return Runs(when, took, refused & ~failed, failed)


def _autoregressive(random: np.random.Generator, runs: int, n: int, regime: Regime) -> Floats:
    keep = np.exp(-1 / regime.rate / regime.correlation_s) if regime.correlation_s else 0.0
    found = random.normal(size=(n, runs))
    for k in range(1, n):
        found[k] = keep * found[k - 1] + np.sqrt(1 - keep**2) * found[k]
    return np.asarray(found.T)


def _steps(random: np.random.Generator, runs: int, n: int, regime: Regime) -> Floats:
    """Return 1 where times are longer, else 0."""
    without_s, with_s, _ = regime.steps or (1.0, 1.0, 0.0)
    found = np.zeros((runs, n))
    begins = random.random(runs) < with_s / (without_s + with_s)
    for row, longer in zip(found, begins.tolist(), strict=True):
        at_s, state = 0.0, longer
        while at_s < regime.seconds:
            until_s = at_s + random.exponential(with_s if state else without_s)
            row[math.ceil(at_s * regime.rate) : math.ceil(until_s * regime.rate)] = state
            at_s, state = until_s, not state
    return found


def _stalls(random: np.random.Generator, seconds: float, apart: float, lasting: float) -> Iterator[tuple[float, float]]:
    for begin in np.sort(random.uniform(0, seconds, random.poisson(seconds / apart))):
        yield float(begin), float(begin + random.exponential(lasting))


def truth(runs: Runs) -> tuple[Floats, Floats]:
    """Return the true 429 rate, share of ok operations, p50 and p95, and the width of the middle 95 % of runs."""
    took = runs.took[runs.ok]
    true = np.array([runs.refused.mean(), runs.ok.mean(), *np.quantile(took, (0.5, 0.95))])
    own = np.array(
        [
            (refused.mean(), ok.mean(), *np.quantile(some[ok], (0.5, 0.95)))
            for some, refused, ok in zip(runs.took, runs.refused, runs.ok, strict=True)
        ]
    )
    low, high = np.quantile(own, (0.025, 0.975), axis=0)
    return true, high - low


def intervals(regime: Regime, runs: Runs, run: int) -> tuple[FoundInterval, ...]:
    """Return one run's intervals of the same figures."""
    cells = grid(0.0, regime.seconds)
    if cells is None:
        raise ValueError("the stage is too short for blocks")
    places, ok = cells.place(runs.seconds), runs.ok[run]
    whole = distribution(runs.took[run][ok])
    times = BinnedTimes(cells, whole)
    times.add(places[ok], runs.took[run][ok])
    stage = StageBlocks(cells, {RESPONSE: times})
    for counts, some in ((stage.sent, ...), (stage.ok, ok), (stage.throttled, runs.refused[run])):
        tally(counts, places[some])
    return (
        share_interval(stage.throttled, stage.sent, times),
        share_interval(stage.ok, stage.sent, times),
        percentile_interval(times, whole, 0.5),
        percentile_interval(times, whole, 0.95),
    )


class Coverage(NamedTuple):
    """The coverage of one figure's intervals.

    Attributes:
        runs: number of runs.
        stated: number of runs that stated an interval.
        held: number of stated intervals that contain the truth.
        width: median width of the stated intervals ÷ the range of 95 % of the runs' figures.
    """

    runs: int
    stated: int
    held: int
    width: float

    @property
    def covered(self) -> float:
        """The share of the stated intervals that contain the truth; 0 if none is stated."""
        return self.held / self.stated if self.stated else 0.0


def coverage(name: str, runs: int = RUNS, seed: int = SEED, truth_runs: int = TRUTH_RUNS) -> dict[str, Coverage]:
    """Return the coverage of a regime's intervals, by figure."""
    regime = REGIMES[name]
    (true, needed), simulated = truth(simulate(regime, truth_runs, seed + 1)), simulate(regime, runs, seed)
    held, widths = np.zeros(len(METRICS), int), [list[float]() for _ in METRICS]
    for run in range(runs):
        for place, (found, value) in enumerate(zip(intervals(regime, simulated, run), true, strict=True)):
            if found.low is not None and found.high is not None:
                held[place] += found.low <= value <= found.high
                widths[place].append(found.high - found.low)
    return {
        metric: Coverage(runs, len(some), int(each), float(np.median(some or [0.0])) / float(width))
        for metric, some, each, width in zip(METRICS, widths, held, needed, strict=True)
    }


def windows_held(regime: Windows, runs: int = RUNS, seed: int = SEED) -> tuple[int, tuple[float, float], float]:
    """Simulate runs with the same sends at other phases. The sends of each run have their own lateness.

    Returns:
        The number of runs whose 429s lie in the ranges of all runs, or of each twentieth run if the limiter is
        replayed request by request. The smallest and the largest 429 rate. The largest distance from a range, in
        requests.
    """
    random, rate = np.random.default_rng(seed), regime.count / regime.window_s
    calm = np.arange(round(0.8 * regime.count)) / (0.8 * rate)
    above = regime.window_s + np.arange(round(regime.times * rate * regime.seconds)) / (regime.times * rate)
    intended, limit = np.concatenate((calm, above)), Limit(regime.count, regime.window_s)
    counted = (intended >= regime.window_s)[:, None]
    seen, ranges, replayed = [], [], 1 if regime.spec.algorithm == VECTORISED else 20
    phases = (np.arange(runs) + random.random(runs)) / runs * regime.window_s
    for run, phase in enumerate(phases.tolist()):
        sent = np.sort(intended + random.exponential(_LAG_S, len(intended)))
        if run % replayed == 0:
            found = rejected_by_phase(regime.spec, limit, [(sent, counted)])
            if found is None:
                raise ValueError("too many requests")
            ranges.append(extent(regime.spec, found.rejected, len(intended)))
        decided = np.sort(sent + random.exponential(_LAG_S, len(sent)))
        seen.append(int((~replay(regime.spec, limit, decided + phase) & counted[:, 0]).sum()))
    lows, highs = np.array(ranges).T
    outside = np.maximum(lows.max() - np.array(seen), np.array(seen) - highs.min())
    rates = np.array(seen) / counted.sum()
    return int((outside <= 0).sum()), (float(rates.min()), float(rates.max())), float(max(0, outside.max()))


def fails(found: Coverage, *, few: bool) -> bool:
    """Whether too few or too many intervals contain the truth, or fewer than three in five are stated.

    If there are few runs, a share's whole 95 % interval must lie beyond the bar.
    """
    low, high = interval(found.held, found.stated) if few else (found.covered, found.covered)
    return high < LEAST or low > MOST or found.stated < 0.6 * found.runs


class Stated(NamedTuple):
    """One run's value of a figure, and the ends of its interval if it has one."""

    value: float
    low: float | None
    high: float | None


def of_records(folder: Path) -> Iterator[str]:
    """Yield rows of a table: for each figure, the number of real runs whose interval contains the truth.

    For intervals from blocks, the truth of a share is its mean over the runs. The truth of a percentile is that of all
    runs' times together. For ranges over phases, each pair of a range and a run's value counts.
    """
    stated: dict[tuple[str, str, str], list[Stated]] = {}
    times: dict[str, list[Floats]] = {}
    runs = 0
    for record in map(load_record, sorted(path.parent for path in folder.rglob("samples.arrows"))):
        if record.info.end != "finished":
            continue
        runs += 1
        for key in record.stages():
            times.setdefault(key.traffic, []).append(record.time("response_time_ms", [key]).ordered)
        for one in find(record).intervals:
            if one.value or one.metric == THROTTLED_RATE:
                entry = stated.setdefault((one.traffic, one.metric, one.kind or "none"), [])
                entry.append(Stated(one.value, one.low, one.high))
    for (traffic, metric, kind), found in sorted(stated.items()):
        if kind == "none" or not metric.startswith(("throttled_rate", "goodput", "response_time.p", "error_rate")):
            continue
        others = [one.value for key, some in stated.items() if key[:2] == (traffic, metric) for one in some]
        if metric.startswith("response_time"):
            true = [float(np.quantile(np.concatenate(times[traffic]), int(metric[-2:]) / 100, method="inverted_cdf"))]
        else:
            true = [float(np.mean(others))] if kind == "blocks" else others
        pairs = [(one, each) for one in found for each in true]
        held = sum(one.low is not None and one.high is not None and one.low <= each <= one.high for one, each in pairs)
        truth = f"{true[0]:.4g}" if kind == "blocks" else f"{min(true):.4g} to {max(true):.4g}"
        yield f"| {traffic} | {metric} | {kind} | {truth} | {held} of {len(pairs)} ({held / len(pairs):.1%}) | {runs} |"


def main() -> int:
    """Print the table. Return 1 if a bar is missed."""
    parser = Options(__doc__)
    parser.add_size("--runs", 200, RUNS, "runs of each regime")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--records", type=Path, help="real runs, by the folder that they are below")
    given = parser.begin()
    if given.records is not None:
        print("| entry | figure | from | all runs | intervals that hold it | runs |\n" + "| --- " * 6 + "|")
        for row in of_records(given.records):
            print(row, flush=True)
        return 0
    bad = 0
    print("| regime | what it is | " + " | ".join(METRICS) + " |")
    print("| --- | --- |" + " --- |" * len(METRICS))
    for name, regime in REGIMES.items():
        cells = []
        for found in coverage(name, given.runs, given.seed).values():
            bad += (wrong := regime.bar and fails(found, few=not given.full))
            withheld = 1 - found.stated / found.runs
            cells.append(f"{found.covered:.1%}, {withheld:.0%}, {found.width:.2f}{' ✗' if wrong else ''}")
        print(f"| {name} | {regime.about} | " + " | ".join(cells) + " |", flush=True)
    print("\n| limiter and offer | 429 rates seen | runs within the range of every run | farthest outside, requests |")
    print("| --- | --- | --- | --- |")
    for about, limiter in WINDOWS.items():
        held, (least, most), outside = windows_held(limiter, given.runs, given.seed)
        print(f"| {about} | {least:.1%} to {most:.1%} | {held} of {given.runs} | {outside:g} |", flush=True)
        bad += held < given.runs
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
