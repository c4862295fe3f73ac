"""The files of a comparison, for every kind of it: page, Markdown, JUnit, OpenMetrics, terminal, GitHub."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from plugins import made_comparisons as made
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from loadtest.compare.results import RunComparison
from loadtest.errors import ExitCode
from loadtest.program import typed
from loadtest.report import regression as write
from loadtest.report.formats import ci
from loadtest.report.regression import FOLDER, build, main

CASES = {name: make() for name, make in made.CASES.items()}
FILES = ("comparison.html", "comparison.md", "comparison.junit.xml", "comparison.openmetrics.txt")


def save(comparison: RunComparison, directory: Path) -> Path:
    """A directory with a comparison."""
    (directory / "comparison.json").write_bytes(msgspec.json.encode(comparison))
    return directory


def suite(comparison: RunComparison) -> ET.Element:
    """Its JUnit suite."""
    found = ET.fromstring(ci.render_comparison_junit(comparison)).find("testsuite")
    assert found is not None
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_comparison_has_all_its_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is the comparison's; each form says its sentence; nothing is None or nan."""
    comparison = CASES[name]
    assert main(["--no-plots", str(save(comparison, tmp_path))]) == comparison.exit_code
    texts = {file: (tmp_path / file).read_text(encoding="utf-8") for file in FILES}
    shown = re.sub(r"<(style|script).*?</\1>", "", texts["comparison.html"], flags=re.DOTALL)
    for text in (shown, texts["comparison.md"], capsys.readouterr().out):
        assert re.search(r"\b(None|nan|inf)\b", text) is None
        assert "rerun" in text or not comparison.confirmed
        assert " ".join(comparison.sentence[-20:].split()) in " ".join(text.replace("\\_", "_").split())
    families = list(text_string_to_metric_families(texts["comparison.openmetrics.txt"]))
    values = sum(len(family.samples) for family in families)
    assert values == 1 + sum(one.head is not None for one in comparison.metrics)


def test_the_page_with_its_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Long names with markup in them: one file below 2 MB, each picture beside it, nothing unescaped."""
    changed = CASES["crowded"].metrics[8:16]  # what there are more of takes only longer
    comparison = msgspec.structs.replace(CASES["crowded"], metrics=changed)
    assert main([str(save(comparison, tmp_path))]) == ExitCode.REGRESSED
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    pictures = sorted(path.stem for path in (tmp_path / FOLDER).glob("*.svg"))
    assert pictures == ["changes", "over-runs"]
    assert page.count("<svg") == 2
    assert len(page.encode()) < 2_000_000
    assert "<b>entry" not in page
    assert "<script>alert" not in page
    page = page.replace("http://127.0.0.1", "")
    assert "http://" not in re.sub(r'xmlns(:xlink)?="http://www\.w3\.org[^"]*"', "", page).replace(
        "http://www.w3.org", ""
    )
    assert capsys.readouterr().err == ""


def test_a_page_of_pairs_is_headed_by_the_comparison_not_by_its_last_block(tmp_path: Path) -> None:
    paired, history = CASES["paired-slower"], CASES["slower"]
    assert build(paired, tmp_path).about[1] == tmp_path.name
    assert f"<code>{tmp_path.name}</code>" in write.render_html(build(paired, tmp_path))
    assert build(history, tmp_path).about[1] == history.runs[-1]


@pytest.mark.parametrize(
    ("code", "words"), [(ExitCode.INVALID, "why the run is invalid"), (ExitCode.TARGET, "up and can be reached")]
)
def test_what_to_do_next_fits_why_it_ended(code: ExitCode, words: str, tmp_path: Path) -> None:
    stopped = msgspec.structs.replace(CASES["paired-slower"], word="invalid", exit_code=int(code))
    assert words in build(stopped, tmp_path).steps[0].words


def test_a_junit_case_for_each_gated_metric() -> None:
    """What regressed has failed, what could not be settled is skipped with the change that would have been found."""
    comparison = CASES["slower"]
    found = suite(comparison)
    gated = [one for one in comparison.metrics if one.gated]
    assert found.get("name") == "regression"
    assert found.get("tests") == str(len(gated) + 1)  # whether they can be compared is one, too
    regressed = sum(one.verdict == "regressed" for one in gated)
    assert found.get("failures") == str(regressed) == "2"
    skipped = [one.get("message", "") for one in suite(CASES["suspected"]).iterfind("testcase/skipped")]
    assert len(skipped) == sum(one.suspect for one in CASES["suspected"].metrics) > 0
    assert all("minimum detectable change" in message for message in skipped)


@pytest.mark.parametrize("name", CASES)
def test_junit_is_red_only_where_the_exit_code_is(name: str) -> None:
    """A regression fails; sides that cannot be compared, and an invalid run, are an error; all else is not red."""
    comparison, found = CASES[name], suite(CASES[name])
    red = (int(found.get("failures", "")) > 0, int(found.get("errors", "")) > 0)
    assert red == (comparison.word == "regressed", comparison.word in ("not comparable", "invalid"))


def test_a_regressed_metric_of_an_unsettled_comparison_does_not_fail() -> None:
    """When the surroundings moved, too, its metrics are skipped: nobody is to believe them."""
    comparison = CASES["moved-surroundings"]
    assert comparison.word == "inconclusive"
    assert any(one.verdict == "regressed" for one in comparison.metrics)
    assert any("suspected" in (one.get("message") or "") for one in suite(comparison).iterfind("testcase/skipped"))


def test_the_terminal_shows_the_finding_first_and_only_what_matters(tmp_path, capsys):
    """The sentence, then the metrics that changed; the twenty others are counted."""
    main(["--no-plots", str(save(CASES["slower"], tmp_path))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("Regressed. greetings: response time p50 +")
    assert sum("regressed" in line for line in lines) == 2
    assert "22 more of 24 rows" in lines
    assert not any(line.startswith("jobs") for line in lines)
    command = typed(f"loadtest regression accept {CASES['slower'].runs[-1]} --reason '…'")
    assert f"  {command}" in lines


def test_a_suspicion_says_how_to_confirm_it(tmp_path: Path) -> None:
    """With the file that the check left; without one, what to run again."""
    assert "regression check" in build(CASES["suspected"], tmp_path).steps[0].command
    (tmp_path / "suspects.json").touch()
    assert (
        build(CASES["suspected"], tmp_path).steps[0].command == f"loadtest regression confirm {tmp_path}/suspects.json"
    )


def test_markdown_stays_below_githubs_limit() -> None:
    """Of two thousand metrics it shows those that changed, and says how many it leaves out."""
    comparison = CASES["slower"]
    many = msgspec.structs.replace(comparison, metrics=comparison.metrics * 80)
    text = write.render_comparison_markdown(build(many, Path()))
    assert len(text.encode()) <= write.MOST_BYTES
    assert "More rows are in comparison.html." in text
    assert "executionTime p50" in text


def test_github_is_told_by_annotation_output_and_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its special characters are escaped, and an output is one line; elsewhere nothing is printed or written."""
    comparison = msgspec.structs.replace(CASES["slower"], sentence="greetings:\n+69 %", findings=())
    (tmp_path / "comparison.md").write_text("# Summary\n", encoding="utf-8")
    output, summary = tmp_path / "output", tmp_path / "summary"
    ci.tell_github(comparison, tmp_path, {})
    assert capsys.readouterr().out == ""
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
    ci.tell_github(comparison, tmp_path, environment)
    printed = capsys.readouterr().out
    assert printed.startswith("::error title=regression%3A regressed::greetings:%0A+69 %25")
    assert output.read_text(encoding="utf-8").splitlines() == [
        "verdict=regressed", "exit_code=4", "sentence=greetings: +69 %", f"page={tmp_path}/comparison.html",
    ]  # fmt: skip
    assert summary.read_text(encoding="utf-8") == "# Summary\n"


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("slower", "error"),
        ("not-comparable", "error"),
        ("suspected", "warning"),
        ("learning", "notice"),
        ("pass", None),
    ],
)
def test_an_annotation_is_as_grave_as_the_verdict(name: str, level: str | None) -> None:
    """A pass has none."""
    found = ci.annotations(CASES[name])
    assert [line.split(" ")[0] for line in found] == ([f"::{level}"] if level else [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b'{"schema": 1, "kind"', "damaged"),
        (b'{"schema": 1}', "damaged"),
        (b'{"schema": 99}', "schema version 99"),
    ],
)
def test_a_comparison_that_cannot_be_read(content, words, tmp_path, capsys):
    """One sentence that names the file, and no traceback."""
    if content is not None:
        (tmp_path / "comparison.json").write_bytes(content)
    assert main([str(tmp_path)]) == ExitCode.INVALID
    said = capsys.readouterr().err
    assert words in said
    assert "comparison.json" in said
    assert "Traceback" not in said


def test_the_page_of_neither_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a directory or a history there is nothing to show."""
    assert main([]) == ExitCode.USAGE
    assert "usage" in capsys.readouterr().err
