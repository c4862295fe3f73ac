"""What somebody decides about a run of a history, found by its id or its directory."""

from pathlib import Path
from typing import Literal

from loadtest.errors import InputError, RecordError
from loadtest.record.run_directory import find_run
from loadtest.regression import history, history_file, measurements, results
from loadtest.regression.history import HistoryRun, Line


def decide(
    run: str,
    place: Path,
    output_dir: Path,
    status: Literal["accepted", "rejected"],
    reason: str,
    *,
    new_segment: bool = False,
) -> list[str]:
    """Record a decision about a run and its rerun, and print it.

    Args:
        run: an id, a run directory, or ``latest``.
        place: as ``--history``.
        output_dir: the folder of all runs.
        status: what the run is from now on.
        reason: in words.
        new_segment: whether the service changed here. An accepted regression says so by itself.

    Returns:
        What was repaired in the history, in sentences.

    Raises:
        InputError: if there is no such run, it is invalid, or the reason is empty.
    """
    if not reason.strip():
        raise InputError("--reason is empty", "Say why: whoever reads the history in a year wants to know.")
    path, name, runs, lines = _found(run, place, output_dir)
    # The rerun of a run may be invalid: the run itself can be decided about all the same.
    valid = [each for each in runs if each.status != "invalid"]
    if name not in {each.id for each in valid}:
        raise InputError(f"{name} is invalid or did not come to its end, so it cannot be {status}", "Check again.")
    start = status == "accepted" and (new_segment or any(each.line.verdict == "regressed" for each in valid))
    begins = valid[0].id if start else None
    lines += [history.decision_line(each.id, status, reason.strip(), new_segment=each.id == begins) for each in valid]
    repaired = history_file.append(path, *lines)
    for each in valid:
        print(f"{each.id}: {status}{'; later runs are compared with those from here on' if each.id == begins else ''}")
    return repaired


def _found(run: str, place: Path, output_dir: Path) -> tuple[Path, str, list[HistoryRun], list[Line]]:
    """The history of a run, its id, the runs that are decided about together, and the line of one that joins now."""
    try:
        directory = find_run(run, output_dir)
    except InputError:
        directory = None
    name = run if directory is None else directory.name
    for path in [place] if place.suffix == history_file.ENDING else sorted(place.glob(f"*{history_file.ENDING}")):
        if runs := history_file.read(path).history.with_rerun(name):
            return path, name, runs, []
    if directory is None:
        raise InputError(
            f"{run!r} is neither in a history of {place} nor a run in {output_dir}",
            "`loadtest regression history` lists the runs.",
        )
    found = history.compact(measurements.read(directory))
    line = history.run_line(found, _verdict(directory))
    return history_file.path_for(place, found.scenario), found.run, list(history.fold([line]).runs), [line]


def _verdict(directory: Path) -> history.Verdict:
    """The verdict of a run's comparison; a run that was never compared has none."""
    if not (directory / results.FILE_NAME).exists():
        return "not judged"
    try:
        return results.load(directory).word
    except RecordError as error:
        raise InputError(error.message, error.remedy) from error
