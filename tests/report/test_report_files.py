import base64
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from markupsafe import escape
from plugins import record_maker as maker
from plugins.edge_records import records
from plugins.verbs import Said

from loadtest.analysis import findings as analysis
from loadtest.analysis.run_record import load_record
from loadtest.cli import main
from loadtest.errors import ExitCode
from loadtest.record.run_info import TargetInfo
from loadtest.record.samples import FILE_NAME
from loadtest.report.__main__ import main as report_main
from loadtest.report.page import Page, Plot
from loadtest.report.plots import _PLOTS, NAMES, draw_all
from loadtest.report.run import make
from loadtest.report.tables import chapter_tables

FILES = ("metrics.json", "measurements.json", "report.html", "report.md")


def files(directory: Path) -> dict[str, bytes]:
    """Every file that a report consists of."""
    made = [directory / name for name in FILES] + sorted((directory / "plots").iterdir())
    return {path.name: path.read_bytes() for path in made}


CASES = ("tour", "one operation", "no success", "all dropped", "nothing at all", "killed", "no traffic")


@pytest.mark.parametrize("case", CASES)
def test_a_report_of_whatever_happened(toured: tuple[Path, Page], tmp_path: Path, case: str) -> None:
    """However little there is, a report is made, and each plot either shows data or says why there are none."""
    if case == "tour":
        directory, report = toured
    else:
        directory = maker.save(tmp_path / "run", *records()[case])
        report = make(directory)
    drawn = [plot.name for plot in report.plots]
    findings = analysis.find(load_record(directory))
    reasons = [_PLOTS[name].draw(findings) for name in NAMES if name not in drawn]
    points = [point for section in report.sections for point in section.points]
    assert all(reason in points for reason in reasons if reason is not None)
    sometimes = ("answer", "heat", "by-rate", "service-time", "execution-latency")
    assert len(drawn) + len([reason for reason in reasons if reason is not None]) >= len(NAMES) - len(sometimes)
    assert {path.stem for path in (directory / "plots").glob("*.svg")} == set(drawn)
    page = (directory / "report.html").read_text()
    assert page.count("<svg") == len(drawn)
    absent = [plot.name for plot in report.plots if page.count(plot.svg) != 1]
    chapters = chapter_tables(findings)
    tables = (table for tables in chapters.values() for table in tables if table.rows)
    absent += [table.title for table in tables if f"<span>{escape(table.title)}</span></caption>" not in page]
    assert not absent, "in no section of the page: see _PLOTS in plots, chapter_tables in tables"
    sections = re.findall(r'<details class="section">.*?<div id="(\w+)" class="unfolded">', page, re.DOTALL)
    assert sections == re.findall(r'<li><a href="#(\w+)">', page), "each section is in the list of contents"
    shown = re.sub(r"<(svg|script).*?</\1>", "", page, flags=re.DOTALL).lower()
    assert "nan" not in shown.replace("dominan", "")


@pytest.mark.heavy
def test_the_same_record_makes_the_same_report(toured: tuple[Path, Page], tmp_path: Path) -> None:
    """Made here and in a process of its own, every file has the same bytes, and so has every plot that four processes
    drew; the exit code is the verdict's.
    """
    directory = tmp_path / "run"
    directory.mkdir()
    for name in ("run.json", FILE_NAME):
        shutil.copy(toured[0] / name, directory)
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.report", str(directory)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    made = files(directory)
    assert made == files(toured[0])
    assert "all 6 thresholds hold" in done.stdout
    assert max(map(len, done.stdout.splitlines()[:-3])) <= 100
    assert len(made["report.html"]) < 2_000_000
    assert "\x1b" not in done.stdout, "no colour where the output isn't a terminal"
    plots = draw_all(analysis.find(load_record(directory)), processes=4)
    assert len(plots) > 10
    assert {plot.name: plot for plot in plots if isinstance(plot, Plot)} == {
        plot.name: plot for plot in toured[1].plots
    }


class _Page(HTMLParser):
    """Collects tags with attributes, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = self.script = ""
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.script += data
        self.words += data


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> | `x` [a](javascript:b) $\\frac{1}{0}$ \"'&amp;"


def test_hostile_strings_stay_text(tmp_path: Path) -> None:
    """Whatever a record says, from a title to a server's words, is shown as text and never becomes markup."""
    name = HOSTILE
    fate = {"status": 500, "outcome": "failed", "reason": HOSTILE, "error_code": HOSTILE, "stage": HOSTILE}
    rows = [maker.request(name, 0, 1, 5, **fate), maker.operation(name, 0, 0, 5, **fate)]
    rows += [maker.request(name, 1, 7, 9, stage=HOSTILE), maker.operation(name, 1, 6, 9, stage=HOSTILE)]
    run = maker.info(
        {name: maker.plan("sync_run", [maker.stage(HOSTILE, 0, 1, 2)], offered=2)},
        id=HOSTILE, command=[HOSTILE], versions={HOSTILE: HOSTILE}, machine={"cpu": HOSTILE}, end_reason=HOSTILE,
        thresholds=[{"require": "error_rate == 0", "traffic": name}],
    )  # fmt: skip
    run.scenario.title = run.scenario.name = run.scenario.hash = run.target.url = HOSTILE
    directory = maker.save(tmp_path / "run", run, rows)
    make(directory)
    page = _Page()
    page.feed((directory / "report.html").read_text())
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"iframe", "object", "link"}
    assert all(str(attributes["href"]).startswith("#") for tag, attributes in page.tags if tag == "a")
    assert [tag for tag, _ in page.tags].count("script") == 1, "ours, which the policy allows by its hash"
    assert all(not key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert page.words.count("<script>alert(1)</script>") > 10
    lines = (directory / "report.md").read_text().splitlines()
    assert not [line for line in lines if re.search(r"(?<!\\)<script|(?<!\\)\]\(javascript", line)]
    widths = {line.count("|") - line.count("\\|") for line in lines if line.startswith("| ") and "alert" in line}
    assert len(widths) <= len([line for line in lines if line.startswith("## ")])


def test_the_page_fetches_nothing(toured: tuple[Path, Page]) -> None:
    """One file, offline: no address in it is ever fetched, and its policy forbids it."""
    directory, _ = toured
    page = _Page()
    page.feed((directory / "report.html").read_text())
    for _, attributes in page.tags:
        for key in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(key) or "#").startswith(("#", "data:"))
    policies = [tag.get("content") for _, tag in page.tags if tag.get("http-equiv") == "Content-Security-Policy"]
    assert page.script
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    ours = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    assert policies == [ours]


def test_every_colour_of_a_drawing_follows_the_page(toured: tuple[Path, Page]) -> None:
    """Drawings take their colours from the page's variables. The page sets each for light and for dark."""
    directory, report = toured
    page = (directory / "report.html").read_text()
    used = set(re.findall(r"var\((--[\w-]+)\)", "".join(plot.svg for plot in report.plots)))
    assert {"--ink", "--muted", "--series-1"} <= used
    for variable in used:
        assert page.count(f"{variable}:") == 2, variable
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", "".join(plot.svg for plot in report.plots))) <= {"#ffffff"}


def test_a_page_of_a_long_run_stays_small(tmp_path: Path) -> None:
    """20,000 operations make a page below 2 MB: clouds of dots become pictures, curves are thinned."""
    rows = []
    for k in range(20_000):
        start = k * 3.0
        rows += [
            maker.operation("t", k, start, start + 3 + (k * 7919 % 1000) / 50),
            maker.request("t", k, start, start + 3 + (k * 7919 % 1000) / 50),
        ]
    entry = maker.plan("sync_run", [maker.stage("within", 0, 60, 333.3)], offered=20_000)
    directory = maker.save(tmp_path / "run", maker.info({"t": entry}), rows, batch=20_000)
    make(directory)
    assert (directory / "report.html").stat().st_size < 2_000_000


def test_the_report_verb_ends_with_the_verdicts_exit_code(tmp_path: Path, loadtest: Callable[..., Said]) -> None:
    """A torn record gives a report, marked incomplete, and exit 3."""
    directory = maker.save(tmp_path / "run", *records()["three seconds"], batch=50)
    path = directory / FILE_NAME
    path.write_bytes(path.read_bytes()[:-3000])
    said = loadtest("report", "--no-plots", str(directory))
    assert said.code == ExitCode.INVALID
    assert "the record is incomplete" in said.out
    assert "the record is incomplete" in (directory / "report.html").read_text()


@pytest.mark.parametrize("damage", ["no record: a full disk", "damaged run.json", "other schema"])
def test_a_record_that_cannot_be_read_is_one_sentence(tmp_path, damage, capfd):
    """A directory without a readable record ends in exit 3 and a message with the cause, not in a traceback."""
    run, rows = records()["one operation"]
    run.end, run.end_reason = "aborted", damage.partition(": ")[2] or None
    directory = maker.save(tmp_path / "run", run, rows)
    if run.end_reason:
        (directory / FILE_NAME).unlink()
    elif damage == "damaged run.json":
        (directory / "run.json").write_text("{")
    else:
        (directory / "run.json").write_text('{"schema": 99}')
    assert report_main([str(directory)]) == ExitCode.INVALID
    printed = capfd.readouterr()
    assert printed.err.startswith("loadtest: ")
    assert (run.end_reason or "") in printed.err
    assert "Traceback" not in printed.err


def test_no_such_run_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RUN that names nothing says how to name one."""
    assert main(["report", str(tmp_path / "nothing")]) == ExitCode.USAGE
    assert "'latest'" in capsys.readouterr().err


def test_thresholds_show_value_margin_and_n(tmp_path: Path) -> None:
    """The first screen's table has, for a failed threshold, what it was, by how much it missed, and on how many."""
    run, rows = records()["three seconds"]
    run.scenario.effective = {"threshold": [{"require": "response_time.p50 < 100ms", "traffic": "t"}]}
    report = make(maker.save(tmp_path / "run", run, rows), plots=False)
    tables = {table.title: table for table in report.tables}
    verdict, where, threshold, value, margin, n = (cell.text for cell in tables["Thresholds"].rows[0])
    assert (verdict, where, threshold) == ("fail", "t", "response_time.p50 < 100ms")
    assert value.endswith("\u00a0ms")
    assert margin == f"−{float(value.split()[0]) - 100:.0f}\u00a0ms"
    assert n == "100"
    assert report.exit_code == ExitCode.FAIL


def test_a_remote_target_is_not_called_embedded(tmp_path: Path) -> None:
    """The facts say where the load went."""
    run, rows = records()["one operation"]
    run.target = TargetInfo(url="http://127.0.0.1:8000", embedded=False, limits=run.target.limits)
    report = make(maker.save(tmp_path / "run", run, rows), plots=False)
    assert ("Target", "http://127.0.0.1:8000 (not started by the run)") in next(
        each.facts for each in report.sections if each.facts
    )


def test_png_makes_pictures_of_both_kinds(tmp_path: Path) -> None:
    """Each plot is there as PNG, too; its SVG stands alone, in the colours of light and dark pages, under its title."""
    directory = maker.save(tmp_path / "run", *records()["one operation"])
    report_main(["--png", str(directory)])
    drawn = sorted((directory / "plots").glob("*.svg"))
    assert len(drawn) > 5
    for file in drawn:
        assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        picture = ET.parse(file).getroot()
        title = picture.findtext("{http://www.w3.org/2000/svg}title") or ""
        assert title.split()[-1] in " ".join(picture.itertext()).replace(title, "", 1)
        colours = file.read_text(encoding="utf-8").partition("</style>")[0]
        assert "prefers-color-scheme: dark" in colours
        used = set(re.findall(r"var\((--[\w-]+)\)", file.read_text(encoding="utf-8")))
        assert all(colours.count(f"{name}:") == 2 for name in used)
    text = (directory / "report.md").read_text(encoding="utf-8")
    assert {f"{file.name}" for file in drawn} == set(re.findall(r"\(plots/([\w.-]+)\)", text))


def test_a_report_without_plots_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The numbers are the same, pictures of an earlier report are gone, and the page says so."""
    with_plots = maker.save(tmp_path / "drawn", *records()["three seconds"])
    report = make(with_plots)
    directory = Path(shutil.copytree(with_plots, tmp_path / "run"))
    assert (directory / "plots" / "rates.svg").is_file()
    assert report_main(["--no-plots", str(directory)]) == report.exit_code
    assert capfd.readouterr().err == ""
    page = (directory / "report.html").read_text()
    assert "<svg" not in page
    assert "left out by --no-plots" in page
    assert not list((directory / "plots").iterdir())
    assert (directory / "metrics.json").read_bytes() == (with_plots / "metrics.json").read_bytes()
    assert "--no-plots" not in (with_plots / "report.html").read_text()


def test_a_report_that_cannot_be_written_says_where_the_record_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a full disk: a usage error with the cause, and no claim that an incomplete record is complete."""
    directory = maker.save(tmp_path / "run", *records()["killed"])
    (directory / "report.md").mkdir()
    assert report_main([str(directory), "--no-plots"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert f"cannot write the report to {directory}: Is a directory" in said
    assert re.search(r"The record is incomplete: .* the record ends after [\d.]+ s of 3 s", said)
