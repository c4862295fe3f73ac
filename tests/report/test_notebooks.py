"""docs/notebooks.md does what it shows."""

import doctest
import math
from pathlib import Path
from types import ModuleType

from loadtest import analysis

ROOT = Path(__file__).parents[2]


def test_the_page_on_notebooks_is_true(maker: ModuleType, tmp_path: Path) -> None:
    """Every line of it gives what it says."""
    names = {"RUN": maker.tour(tmp_path / "run"), "folder": tmp_path}
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    example = doctest.DocTestParser().get_doctest(page.replace("```", ""), names, "notebooks.md", None, 0)
    said: list[str] = []
    result = doctest.DocTestRunner().run(example, out=said.append)
    assert result.failed == 0, "".join(said)
    assert result.attempted > 10


def test_figures_are_those_of_metrics_json(maker: ModuleType, tmp_path: Path) -> None:
    """Each cell's figures are in the table once, with the interval and n that metrics.json has."""
    found = analysis.understand(maker.tour(tmp_path / "run"))
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
