"""A run beside earlier ones that a reader names: the differences, in the words of the rule. The run's verdict stays."""

from collections.abc import Sequence
from pathlib import Path

from loadtest.analysis import findings as analysis
from loadtest.analysis.measurements import measure
from loadtest.analysis.record import load_record
from loadtest.errors import InputError
from loadtest.regression.measurements import RunMeasurements, read
from loadtest.regression.results import Comparison
from loadtest.regression.rule import judge_history
from loadtest.report.regression.content import TONES
from loadtest.report.regression.tables import metrics_table
from loadtest.report.report import Differences
from loadtest.report.tables.table import Table


def differences(run: RunMeasurements, baselines: Sequence[RunMeasurements]) -> Differences:
    """Judge a run against baselines as against a history of accepted runs.

    Raises:
        InputError: if the run is among its own baselines.
    """
    if any(one.run == run.run for one in baselines):
        raise InputError(f"{run.run} cannot be its own baseline", "Give an earlier run to --baseline.")
    by_start = sorted({one.run: one for one in baselines}.values(), key=lambda one: (one.started, one.run))
    found = judge_history(by_start, run)
    title = "Against 1 baseline" if len(by_start) == 1 else f"Against {len(by_start)} baselines"
    return Differences(title, found.sentence, found.reasons, TONES[found.word], _table(found, title))


def _table(found: Comparison, title: str) -> Table:
    table = metrics_table(found)
    return Table("differences", title, table.columns, table.rows, table.note)


def load_measurements(directory: Path) -> RunMeasurements:
    """What a run tells a comparison: as its report wrote it, or from its record if there is none of this version.

    Raises:
        RecordError: if the directory holds no readable record.
    """
    try:
        return read(directory)
    except InputError:  # made anew from the record, which says why if it cannot be read
        return measure(analysis.find(load_record(directory)))
