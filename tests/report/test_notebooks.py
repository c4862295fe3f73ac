"""docs/notebooks.md and the notebooks beside it do what they show."""

import ast
import doctest
import json
import math
from pathlib import Path
from typing import Any

import pytest
from plugins import record_maker as maker

from loadtest import analysis
from loadtest.analysis.findings import Findings

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tour, as the latest run of a working directory."""
    reports = tmp_path_factory.mktemp("notebooks") / "reports"
    directory = Path(maker.tour(reports / "20250720T082640Z-tour-0a1b2c"))
    (reports / "latest").symlink_to(directory.name)
    return directory


@pytest.fixture(scope="module")
def notebooks(run: Path) -> Path:
    """The folder of notebooks beside the tour and a later, shorter one that polls twice as often."""
    folder = run.parents[1] / "docs" / "notebooks"
    folder.mkdir(parents=True)
    traffic = maker.tour_traffic(0.2)
    rows = maker.Simulation(traffic, seed=2, poll_s=1.0).run()
    maker.save(run.parent / "20250721T082640Z-tour-3d4e5f", maker.info(traffic), rows)
    return folder


@pytest.fixture(scope="module")
def found(run: Path) -> Findings:
    return analysis.understand(run)


@pytest.mark.heavy
def test_the_page_on_notebooks_is_true(run: Path, tmp_path: Path) -> None:
    """Every line of it gives what it says."""
    names = {"RUN": run, "folder": tmp_path}
    page = (DOCS / "notebooks.md").read_text(encoding="utf-8")
    example = doctest.DocTestParser().get_doctest(page.replace("```", ""), names, "notebooks.md", None, 0)
    said: list[str] = []
    result = doctest.DocTestRunner().run(example, out=said.append)
    assert result.failed == 0, "".join(said)
    assert result.attempted > 10


@pytest.mark.parametrize("path", sorted(DOCS.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from top to bottom in its folder, as Jupyter does, each cell gives the output that the notebook shows."""
    monkeypatch.chdir(notebooks)
    names: dict[str, Any] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        *before, last = ast.parse("".join(cell["source"])).body
        assert isinstance(last, ast.Expr), "a cell ends with what it shows"
        exec(compile(ast.Module(before, []), path.name, "exec"), names)
        value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
        assert repr(value).splitlines() == "".join(cell["outputs"][0]["data"]["text/plain"]).splitlines()
        assert len(cell["outputs"]) == 1


def test_figures_are_those_of_metrics_json(found: Findings) -> None:
    """Each cell's figures are in the table once, with the interval and n that metrics.json has."""
    table = analysis.metrics(found).set_index(["traffic", "stage", "metric", "statistic"])
    assert table.index.is_unique
    block = found.metrics.traffic["jobs"].stages["within"].response_time_ms
    row = table.loc[("jobs", "within", "response_time", "p50")]
    assert [row["value"], row["low"], row["high"], row["n"]] == [block.p50, *block.p50_interval, block.n]
    assert not row["at_least"]
    censored = table.loc[("jobs", "above", "response_time", "p50")]
    assert censored["at_least"]
    assert math.isnan(censored["high"])
    assert table.loc[("overall", "", "goodput", ""), "value"] == found.metrics.overall.goodput
    named = table.reset_index().drop_duplicates(["metric", "statistic"]).set_index(["metric", "statistic"])["unit"]
    assert named["response_time", "p95"] == named["first_byte", "max"] == "ms"
    assert named["goodput", ""] == named["requests", "sent_rate"] == named["operations", "offered_rate"] == "1/s"
    assert named["throttled_rate", ""] == named["requests", "throttled_rate"] == "share"
    assert named["polls", "p50"] == named["operations", "ok"] == ""
    rates = [name for name in named.index if "rate" in "".join(name)]
    assert [name for name in rates if not named[name]] == []
