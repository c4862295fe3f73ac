"""Tables of a comparison: its findings, metrics, controls, test environment and runs."""

from collections.abc import Sequence
from typing import Final

from loadtest.compare import amounts
from loadtest.compare.measurements import FACTS, RunMeasurements
from loadtest.compare.results import ControlComparison, MetricComparison, RunComparison
from loadtest.report.page import Table, TableCell, TableColumns, Tone, table_of, tone_of
from loadtest.words import NOTHING, duration_ms

SUBJECT: Final = "Version of the target"
_MOST_NAMED: Final = 3
"""A cell of the test environment names at most this many values."""


def ordered(comparison: RunComparison) -> tuple[MetricComparison, ...]:
    """Sort metrics: first findings, then other changes, then other judged metrics, then metrics that are not judged."""
    found = [one.key for finding in comparison.findings for one in (finding.cause, *finding.symptoms)]
    rank = {key: place for place, key in enumerate(found)}

    def order(one: MetricComparison) -> tuple[int, bool, bool]:
        return rank.get(one.key, len(rank)), not amounts.is_changed(one), not one.gated

    return tuple(sorted(comparison.metrics, key=order))


_SIZES: Final[TableColumns[MetricComparison]] = {
    "#Base": lambda one: amounts.value(one.metric, one.base),
    "#Head": lambda one: amounts.value(one.metric, one.head),
    "#Difference": lambda one: (
        TableCell(NOTHING)
        if amounts.is_share(one)
        else TableCell(amounts.difference(one.metric, one.difference), amounts.difference_interval(one))
    ),
    "#Change": lambda one: TableCell(amounts.change(one), amounts.change_interval(one)),
}


def findings_table(comparison: RunComparison) -> Table:
    """Return a table with the leading metric of each finding, followed by its symptoms."""
    causes = {each.cause.key for each in comparison.findings}
    columns: TableColumns[MetricComparison] = {
        "Traffic": lambda one: amounts.place(one, comparison.metrics) if one.key in causes else "",
        "Metric": lambda one: _metric(comparison, one, *(("", "head") if one.key in causes else ("symptom",))),
        **_SIZES,
        "#p": _p,
    }
    rows = [one for each in comparison.findings for one in (each.cause, *each.symptoms)]
    return table_of("Changed metrics and their symptoms", columns, rows)


def metrics_table(comparison: RunComparison) -> Table:
    """Return a table of all compared metrics, the most important first."""
    shown = ordered(comparison)
    changed = [place for place, one in enumerate(shown) if amounts.is_changed(one)]
    tested = [place for place, one in enumerate(shown) if one.p is not None]
    # Without a changed metric, the rows with the largest changes for the worse are the most important.
    decides = changed or sorted(tested, key=lambda place: amounts.telling(shown[place]), reverse=True)[:3]
    # Shares have no difference. If the brief table has only shares, a terminal has no room for the empty column.
    spare = "#Difference" if all(amounts.is_share(shown[place]) for place in decides) else ""
    columns: TableColumns[MetricComparison] = {
        "Traffic": lambda one: amounts.place(one, comparison.metrics),
        "Metric": lambda one: _metric(comparison, one),
        "Verdict": _verdict,
        **{f"~{label}" if label == spare else label: of for label, of in _SIZES.items()},
        "~#p": _p,
        "#Detectable": amounts.detectable,
        "~#Pairs" if comparison.kind == "paired" else "~#Runs": lambda one: one.n,
    }
    note = (
        "Difference is head − base. Change is the relative change (of shares: percentage points), with its 95 % "
        "interval below. p is one-sided and tests for a change for the worse. Except in a rerun, p of tested metrics "
        "is adjusted for their number (Holm). Detectable is the smallest worsening that is found in 80 % of cases."
    )
    return table_of("Every metric", columns, shown, note, tuple(decides))


def _metric(comparison: RunComparison, one: MetricComparison, role: str = "", tone: Tone = "") -> TableCell:
    """Return a metric's name with its role. The response time of jobs also gets the polling interval."""
    polled = next((text for run in comparison.head_runs if (text := run.polled(one.key))), "")
    return TableCell(one.nature.name, ", ".join(part for part in (role, polled) if part), tone)


def _verdict(one: MetricComparison) -> TableCell:
    if one.suspect:
        return TableCell("suspected", "" if one.gated else one.why, "unsure")
    if not one.gated and one.verdict != "learning":
        return TableCell("not judged", one.why, "faint")
    if one.verdict == "inconclusive" and amounts.is_share(one) and not one.base and not one.head:
        return TableCell("none seen", one.why, "faint")
    return TableCell(one.verdict, one.why, tone_of(one.verdict))


def _p(one: MetricComparison) -> TableCell:
    return TableCell(amounts.probability(one.p if one.p_adjusted is None else one.p_adjusted))


def controls_table(comparison: RunComparison) -> Table:
    """Return the table of controls, which the service cannot affect."""
    columns: TableColumns[ControlComparison] = {
        "Control": lambda one: one.name,
        "Result": lambda one: TableCell("moved", "", "bad") if one.moved else TableCell("did not move", "", "good"),
        "~#Base": lambda one: duration_ms(one.base_ms),
        "~#Head": lambda one: duration_ms(one.head_ms),
        "#Change": lambda one: amounts.percent(one.ratio),
    }
    note = (
        "The service cannot affect these: dispatch lag arises in the load generator, and the CPU loop is a fixed piece "
        "of work on its machine. If a control moved, the test environment changed, and the difference cannot be "
        "attributed to the service."
    )
    return table_of("Controls", columns, comparison.controls, note)


def commit(run: RunMeasurements) -> str:
    """Return a run's abbreviated commit."""
    return run.commit[:12] or NOTHING


def differing(comparison: RunComparison) -> list[str]:
    """Return the names of the test environment's facts for which a head run has a value that no base run has."""
    sides = comparison.base_runs, comparison.head_runs
    found = {fact.label: [set(map(fact.shown, runs)) for runs in sides] for fact in FACTS if fact.label}
    return [label for label, (base, head) in found.items() if base and head and not head <= base]


def identities_table(comparison: RunComparison) -> Table:
    """Return a table of both sides' test environments that marks the differences."""

    def listed(values: Sequence[str]) -> str:
        more = f" and {len(values) - _MOST_NAMED} more" if len(values) > _MOST_NAMED else ""
        return ", ".join(values[:_MOST_NAMED]) + more if values else NOTHING

    sides = (comparison.base_runs, comparison.head_runs)
    changed = differing(comparison)
    rows: list[tuple[str, str, TableCell]] = []
    for fact in (each for each in FACTS if each.label):
        base, head = (listed(list(dict.fromkeys(map(fact.shown, runs)))) for runs in sides)
        rows.append((fact.label, base, TableCell(head, "differs" if fact.label in changed else "")))
    rows.append(("Runs", _period(comparison.base_runs), TableCell(_period(comparison.head_runs))))
    columns: TableColumns[tuple[str, str, TableCell]] = {
        "": lambda row: row[0],
        "Base": lambda row: row[1],
        "Head": lambda row: row[2],
    }
    return table_of("Test environment", columns, rows)


def _period(runs: Sequence[RunMeasurements]) -> str:
    if not runs:
        return NOTHING
    first, last = amounts.minute(runs[0].started), amounts.minute(runs[-1].started)
    return f"1, {first}" if len(runs) == 1 else f"{len(runs)}, {first} to {last}"


def runs_table(comparison: RunComparison) -> Table:
    """Return a table of all runs in the comparison."""
    columns: TableColumns[tuple[str, RunMeasurements]] = {
        "Side": lambda row: row[0],
        "Run": lambda row: row[1].run,
        "Started": lambda row: amounts.minute(row[1].started),
        "Version": lambda row: row[1].target_version or NOTHING,
        "Commit": lambda row: commit(row[1]),
        "Its own verdict": lambda row: TableCell(row[1].verdict) if row[1].valid else TableCell("invalid", tone="bad"),
    }
    sides = (("base", comparison.base_runs), ("head", comparison.head_runs))
    return table_of("Every run", columns, [(side, run) for side, runs in sides for run in runs])
