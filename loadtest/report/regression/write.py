"""Reading ``comparison.json`` and writing every form of its report beside it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from loadtest.errors import RecordError
from loadtest.record.run_directory import write_atomically
from loadtest.regression import history_file
from loadtest.regression.results import Comparison
from loadtest.report.regression import ci, formats
from loadtest.report.regression.content import ComparisonReport, build
from loadtest.report.regression.plots import FOLDER

FILE_NAME: Final = "comparison.json"


def load(directory: Path) -> Comparison:
    """Read what a comparison found.

    Raises:
        RecordError: if it is missing, damaged, or of another schema version.
    """
    path = directory / FILE_NAME
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_Versioned).schema
        if version != Comparison.__struct_defaults__[0]:
            raise RecordError(f"{path} has schema version {version}; this loadtest reads another one")
        return msgspec.json.decode(data, type=Comparison)
    except OSError as error:
        raise RecordError(
            f"cannot read {path}: {error.strerror}", "`loadtest compare` and `loadtest regression check` write it."
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error}", "Make the comparison again.") from error


class _Versioned(msgspec.Struct):
    schema: int


def make(directory: Path, shown: Path, history: Path | None = None, *, plots: bool = True) -> ComparisonReport:
    """Write comparison.html, .md, .junit.xml, .openmetrics.txt and the plots' files beside ``comparison.json``.

    Args:
        directory: where ``comparison.json`` is.
        shown: the same, as a user may type it.
        history: the file that the run was compared with; the pages then show the runs before the last accepted change.
        plots: draw them, too.

    Raises:
        RecordError: if it cannot be read.
        InputError: if the history cannot be read.
    """
    runs = None if history is None else history_file.read(history).history
    report = build(load(directory), shown, runs)
    if not plots:
        report = replace(report, draw=tuple)
    folder = directory / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for plot in report.plots:
        if plot.png:
            (folder / f"{plot.name}.png").write_bytes(plot.png)
            (folder / f"{plot.name}.csv").write_text(plot.csv, encoding="utf-8")
    write_atomically(directory / "comparison.md", formats.render_markdown(report))
    write_atomically(directory / "comparison.html", formats.render_html(report))
    write_atomically(directory / "comparison.junit.xml", ci.render_junit(report))
    write_atomically(directory / "comparison.openmetrics.txt", ci.render_openmetrics(report.comparison))
    return report
