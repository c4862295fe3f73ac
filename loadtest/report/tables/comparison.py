"""Tables of a comparison: findings with symptoms, metrics, controls, test environment, runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from loadtest.compare.measurements import RunMeasurements
from loadtest.compare.results import MetricComparison, MetricVerdict, RunComparison
from loadtest.compare.sentences import minute
from loadtest.report import amounts
from loadtest.report.page import Row, Table, TableCell, Tone, table_of
from loadtest.words import NOTHING, count, duration_ms

TONES: Final[dict[MetricVerdict, Tone]] = {
    "regressed": "bad",
    "improved": "good",
    "unchanged": "",
    "inconclusive": "unsure",
    "changed": "unsure",
    "learning": "faint",
    "not comparable": "unsure",
}
_SHA: Final = 12
"""Displayed digits of a commit."""
_MOST_NAMED: Final = 3
_LARGEST: Final = 3
"""Number of rows that decide if there is no finding."""


def ordered(comparison: RunComparison) -> tuple[MetricComparison, ...]:
    """Return metrics with findings first, then other changes, then the rest; metrics not judged come last."""
    found = [one.key for finding in comparison.findings for one in (finding.cause, *finding.symptoms)]
    rank = {key: place for place, key in enumerate(found)}

    def order(one: MetricComparison) -> tuple[int, bool, bool]:
        return rank.get(one.key, len(rank)), not amounts.is_changed(one), not one.gated

    return tuple(sorted(comparison.metrics, key=order))


def findings_table(comparison: RunComparison) -> Table:
    """Return each finding's leading metric, followed by its symptoms."""
    stages = amounts.has_stages(comparison.metrics)
    columns = "Traffic | Metric | #Base | #Head | #Difference | #Change | #p"
    rows = []
    for finding in comparison.findings:
        for one in (finding.cause, *finding.symptoms):
            first = one is finding.cause
            rows.append(
                (
                    amounts.where(one, stages=stages) if first else "",
                    TableCell(
                        amounts.name(one),
                        ", ".join(part for part in ("" if first else "symptom", _polled(comparison, one)) if part),
                        "head" if first else "",
                    ),
                    amounts.value(one.metric, one.base),
                    amounts.value(one.metric, one.head),
                    TableCell(amounts.difference(one.metric, one.difference), amounts.difference_interval(one)),
                    TableCell(amounts.change(one), amounts.change_interval(one)),
                    _p(one),
                )
            )
    return table_of("findings", "What changed, and where it shows", columns, rows)


def metrics_table(comparison: RunComparison) -> Table:
    """Return all metrics that both sides have, the most important first."""
    stages = amounts.has_stages(comparison.metrics)
    runs = "Pairs" if comparison.kind == "paired" else "Runs"
    columns = f"Traffic | Metric | Verdict | #Base | #Head | #Difference | #Change | ~#p | #Detectable | ~#{runs}"
    shown = ordered(comparison)
    rows = tuple(
        (
            amounts.where(one, stages=stages),
            TableCell(amounts.name(one), _polled(comparison, one)),
            verdict(one),
            amounts.value(one.metric, one.base),
            amounts.value(one.metric, one.head),
            NOTHING if amounts.is_share(one) else amounts.difference(one.metric, one.difference),
            _change(one),
            _p(one),
            amounts.detectable(one),
            count(one.n),
        )
        for one in shown
    )
    note = (
        "Difference is head − base; change is the same as a ratio, of shares in percentage points, with its 95 % "
        "interval below. p is one-sided, that the metric became worse; adjusted for the number of metrics (Holm) where "
        "the rule does that. Detectable is the smallest change for the worse that is found in 80 % of cases."
    )
    return replace(table_of("metrics", "Every metric", columns, rows, note), decides=_deciding(shown))


def _polled(comparison: RunComparison, one: MetricComparison) -> str:
    """Return the polling interval if a metric is a job's response time."""
    return next((text for run in comparison.head_runs if (text := run.polled(one.key))), "")


def _deciding(metrics: Sequence[MetricComparison]) -> tuple[int, ...]:
    """Return rows of suspected, regressed or improved metrics; without any, of the largest changes for the worse."""
    places = range(len(metrics))
    if changed := [place for place in places if amounts.is_changed(metrics[place])]:
        return tuple(changed)
    tested = [place for place in places if metrics[place].p is not None]
    return tuple(sorted(tested, key=lambda place: amounts.telling(metrics[place]), reverse=True)[:_LARGEST])


def _change(one: MetricComparison) -> TableCell:
    if amounts.is_share(one):
        return TableCell(
            amounts.difference(one.metric, one.difference), amounts.difference_interval(one).partition(": ")[2]
        )
    return TableCell(amounts.change(one), amounts.change_interval(one).partition(": ")[2])


def verdict(one: MetricComparison) -> TableCell:
    """Return a metric's verdict in a word: its own, suspected, or not judged with the reason."""
    if one.suspect:
        return TableCell("suspected", "" if one.gated else one.why, "unsure")
    if not one.gated and one.verdict != "learning":
        return TableCell("not judged", one.why, "faint")
    return TableCell(one.verdict, one.why, TONES[one.verdict])


def _p(one: MetricComparison) -> TableCell:
    return TableCell(amounts.probability(one.p if one.p_adjusted is None else one.p_adjusted))


def controls_table(comparison: RunComparison) -> Table:
    """Return the controls, which the service cannot affect."""
    columns = "Control | Result | ~#Base | ~#Head | #Change"
    rows = tuple(
        (
            one.name,
            TableCell("moved", tone="bad") if one.moved else TableCell("did not move", tone="good"),
            duration_ms(one.base_ms),
            duration_ms(one.head_ms),
            amounts.percent(one.ratio),
        )
        for one in comparison.controls
    )
    note = (
        "The service cannot affect these: dispatch lag is the load generator’s own, and the CPU loop is a "
        "fixed piece of "
        "work on its machine. If one changes, so did the test environment, and the difference cannot be attributed to "
        "the service."
    )
    return table_of("controls", "Controls", columns, rows, note)


def commit(run: RunMeasurements) -> str:
    """Return an abbreviated commit."""
    return run.commit[:_SHA] or NOTHING


_IDENTITIES: Final[tuple[tuple[str, Callable[[RunMeasurements], str]], ...]] = (
    ("Scenario hash", lambda run: run.scenario_hash),
    ("Target", lambda run: run.target.host),
    ("Endpoint, digest", lambda run: run.target.endpoint),
    ("Limits assumed", lambda run: run.target.limits),
    ("Deliberate faults", lambda run: "; ".join(run.target.faults) or "none"),
    ("API keys", lambda run: count(run.target.keys)),
    ("Version of the target", lambda run: run.target_version or "not stated"),
    ("Commit of the scenario", commit),
    ("OS", lambda run: run.generator.os),
    ("CPU", lambda run: run.generator.cpu),
    ("Cores", lambda run: run.generator.cores),
    ("Workers", lambda run: count(run.generator.workers) if run.generator.workers else "none, one process"),
)


def identities_table(comparison: RunComparison) -> Table:
    """Return the test environment of both sides, with differences marked."""
    rows: list[Row] = []
    for label, field in _IDENTITIES:
        base, head = _distinct(comparison.base_runs, field), _distinct(comparison.head_runs, field)
        differs = bool(base and head) and set(base) != set(head)
        rows.append((label, _listed(base), TableCell(_listed(head), "differs" if differs else "")))
    rows.append(("Runs", _period(comparison.base_runs), _period(comparison.head_runs)))
    columns = " | Base | Head"
    return table_of("identities", "Test environment", columns, rows)


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


def runs_table(comparison: RunComparison) -> Table:
    """Return all runs in the comparison."""
    columns = "Side | Run | Started | Version | Commit | Its own verdict"
    rows = tuple(
        (
            side,
            run.run,
            minute(run.started),
            run.target_version or NOTHING,
            commit(run),
            TableCell(run.verdict if run.valid else "invalid", tone="" if run.valid else "bad"),
        )
        for side, runs in (("base", comparison.base_runs), ("head", comparison.head_runs))
        for run in runs
    )
    return table_of("runs", "Every run", columns, rows)
