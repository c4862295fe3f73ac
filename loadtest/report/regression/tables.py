"""The tables of a comparison: findings with their symptoms, every metric, controls, who was compared with whom."""

from collections.abc import Callable, Sequence
from typing import Final

from loadtest.analysis.numbers import NOTHING, count, duration_ms
from loadtest.regression.measurements import Key, RunMeasurements
from loadtest.regression.results import Comparison, MetricComparison, MetricVerdict
from loadtest.regression.sentences import minute
from loadtest.report.regression import amounts
from loadtest.report.tables.table import Cell, Table, Tone

TONES: Final[dict[MetricVerdict, Tone]] = {
    "regressed": "bad",
    "improved": "good",
    "unchanged": "",
    "inconclusive": "unsure",
    "learning": "faint",
    "not comparable": "unsure",
}
_SHA: Final = 12
"""Digits of a commit that are shown."""
_MOST_NAMED: Final = 3


def ordered(comparison: Comparison) -> tuple[MetricComparison, ...]:
    """The metrics of the findings first, then what else changed; the rest as it is, what is not judged last."""
    found = [place_of(one) for finding in comparison.findings for one in (finding.cause, *finding.symptoms)]
    rank = {key: place for place, key in enumerate(found)}

    def order(one: MetricComparison) -> tuple[int, bool, bool]:
        return rank.get(place_of(one), len(rank)), not is_changed(one), not one.gated

    return tuple(sorted(comparison.metrics, key=order))


def place_of(one: MetricComparison) -> Key:
    """Of what it is the comparison."""
    return Key(one.traffic, one.stage, one.metric)


def is_changed(one: MetricComparison) -> bool:
    """Whether it is suspected, regressed or improved."""
    return one.suspect or one.verdict in ("regressed", "improved")


def findings_table(comparison: Comparison) -> Table:
    """The metric in which each finding shows first, and its symptoms below it."""
    stages = amounts.has_stages(comparison.metrics)
    columns = (
        ("Traffic", False), ("Metric", False), ("Base", True), ("Head", True), ("Difference", True), ("Change", True),
        ("p", True),
    )  # fmt: skip
    rows = []
    for finding in comparison.findings:
        for one in (finding.cause, *finding.symptoms):
            first = one is finding.cause
            rows.append(
                (
                    Cell(amounts.where(one, stages=stages) if first else "", tone="head"),
                    Cell(amounts.name(one), "" if first else "symptom", "head" if first else ""),
                    Cell(amounts.value(one.metric, one.base)),
                    Cell(amounts.value(one.metric, one.head)),
                    Cell(amounts.difference(one.metric, one.difference), amounts.difference_interval(one)),
                    Cell(amounts.change(one), amounts.change_interval(one)),
                    _p(one),
                )
            )
    return Table("findings", "What changed, and where it shows", columns, tuple(rows))


def metrics_table(comparison: Comparison) -> Table:
    """Every metric that both sides have, those that matter first."""
    stages = amounts.has_stages(comparison.metrics)
    runs = "Pairs" if comparison.kind == "paired" else "Runs"
    columns = (
        ("Traffic", False), ("Metric", False), ("Verdict", False), ("Base", True), ("Head", True), ("Difference", True),
        ("Change", True), ("p", True), ("Would see", True), (runs, True),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(amounts.where(one, stages=stages), tone="head"),
            Cell(amounts.name(one)),
            verdict(one),
            Cell(amounts.value(one.metric, one.base)),
            Cell(amounts.value(one.metric, one.head)),
            Cell(NOTHING if amounts.is_share(one) else amounts.difference(one.metric, one.difference)),
            _change(one),
            _p(one),
            Cell(amounts.detectable(one)),
            Cell(count(one.n)),
        )
        for one in ordered(comparison)
    )
    note = (
        "Difference is head − base; change is the same as a ratio, of shares in percentage points, with its 95 % "
        "interval below. p is one-sided, that the metric became worse; adjusted for the number of metrics (Holm) where "
        "the rule does that. “Would see” is the smallest change for the worse that is found in 80 % of cases."
    )
    return Table("metrics", "Every metric", columns, rows, note)


def _change(one: MetricComparison) -> Cell:
    if amounts.is_share(one):
        return Cell(amounts.difference(one.metric, one.difference), amounts.difference_interval(one).partition(": ")[2])
    return Cell(amounts.change(one), amounts.change_interval(one).partition(": ")[2])


def verdict(one: MetricComparison) -> Cell:
    """The verdict on a metric in a word: its own, or that it is suspected or not judged, and why."""
    if one.suspect:
        return Cell("suspected", "" if one.gated else one.why, "unsure")
    if not one.gated and one.verdict != "learning":
        return Cell("not judged", one.why, "faint")
    return Cell(one.verdict, one.why, TONES[one.verdict])


def _p(one: MetricComparison) -> Cell:
    return Cell(amounts.probability(one.p if one.p_adjusted is None else one.p_adjusted))


def controls_table(comparison: Comparison) -> Table:
    """What the service cannot touch, on both sides."""
    columns = (("Control", False), ("Result", False), ("Base", True), ("Head", True), ("Change", True))
    rows = tuple(
        (
            Cell(one.name, tone="head"),
            Cell("moved", tone="bad") if one.moved else Cell("did not move", tone="good"),
            Cell(duration_ms(one.base_ms)),
            Cell(duration_ms(one.head_ms)),
            Cell(amounts.percent(one.ratio)),
        )
        for one in comparison.controls
    )
    note = (
        "The service cannot move these: dispatch lag is the load generator’s own, and the CPU loop is a fixed piece of "
        "work on its machine. If one moves, so did the surroundings, and a difference cannot be laid at the service’s "
        "door."
    )
    return Table("controls", "Controls", columns, rows, note)


def commit(run: RunMeasurements) -> str:
    """A commit, in so many digits as tell it from others."""
    return run.commit[:_SHA] or NOTHING


_IDENTITIES: Final[tuple[tuple[str, Callable[[RunMeasurements], str]], ...]] = (
    ("Scenario hash", lambda run: run.scenario_hash),
    ("Target", lambda run: run.target.host),
    ("Endpoint, digest", lambda run: run.target.endpoint),
    ("Limits assumed", lambda run: run.target.limits),
    ("Faults on purpose", lambda run: "; ".join(run.target.faults) or "none"),
    ("API keys", lambda run: count(run.target.keys)),
    ("Version of the target", lambda run: run.target_version or "not stated"),
    ("Commit of the scenario", commit),
    ("OS", lambda run: run.generator.os),
    ("CPU", lambda run: run.generator.cpu),
    ("Cores", lambda run: run.generator.cores),
    ("Workers", lambda run: count(run.generator.workers) if run.generator.workers else "none, one process"),
)


def identities_table(comparison: Comparison) -> Table:
    """Who was measured by whom, on both sides; what differs is marked."""
    rows = []
    for label, field in _IDENTITIES:
        base, head = _distinct(comparison.base_runs, field), _distinct(comparison.head_runs, field)
        differs = bool(base and head) and set(base) != set(head)
        rows.append((Cell(label, tone="head"), Cell(_listed(base)), Cell(_listed(head), "differs" if differs else "")))
    rows.append((Cell("Runs", tone="head"), Cell(_period(comparison.base_runs)), Cell(_period(comparison.head_runs))))
    columns = (("", False), ("Base", False), ("Head", False))
    return Table("identities", "Who was measured by whom", columns, tuple(rows))


def _distinct(runs: Sequence[RunMeasurements], field: Callable[[RunMeasurements], str]) -> list[str]:
    return list(dict.fromkeys(field(run) for run in runs))


def _listed(values: Sequence[str]) -> str:
    if not values:
        return NOTHING
    more = f" and {len(values) - _MOST_NAMED} more" if len(values) > _MOST_NAMED else ""
    return ", ".join(values[:_MOST_NAMED]) + more


def _period(runs: Sequence[RunMeasurements]) -> str:
    if not runs:
        return NOTHING
    first, last = minute(runs[0].started), minute(runs[-1].started)
    return f"1, {first}" if len(runs) == 1 else f"{len(runs)}, {first} to {last}"


def runs_table(comparison: Comparison) -> Table:
    """Every run that the comparison rests on."""
    columns = (
        ("Side", False), ("Run", False), ("Started", False), ("Version", False), ("Commit", False),
        ("Its own verdict", False),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(side, tone="head"),
            Cell(run.run),
            Cell(minute(run.started)),
            Cell(run.target_version or NOTHING),
            Cell(commit(run)),
            Cell(run.verdict if run.valid else "invalid", tone="" if run.valid else "bad"),
        )
        for side, runs in (("base", comparison.base_runs), ("head", comparison.head_runs))
        for run in runs
    )
    return Table("runs", "Every run", columns, rows)
