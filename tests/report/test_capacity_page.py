"""The pages of a capacity search, made from its ``capacity.json`` alone."""

from pathlib import Path

from loadtest.capacity.results import FILE_NAME, Capacity, Constraint, EntryLevel, Level, LimitLevel, save
from loadtest.contract import LimitName
from loadtest.report.__main__ import make_pages
from loadtest.report.capacity import build


def level(multiplier: float, refused: float) -> Level:
    """A level of jobs, of whose polls so many were refused."""
    entry = EntryLevel(
        operation="async_run",
        offered_rate=5 * multiplier,
        response_p50_ms=502.0,
        response_p95_ms=508.0,
        execution_p50_ms=301.0,
        throttled_rate=0.0,
        requests_per_operation=2.0,
    )
    return Level(
        multiplier=multiplier,
        directory=f"levels/{multiplier}",
        outcome="breaks" if refused else "holds",
        broken=("requests.throttled == 0",) if refused else (),
        stage_s=6,
        requests=100,
        entries={"jobs": entry},
        limits={LimitName.RETRIEVAL: LimitLevel(sent_rate=20.0, throttled_rate=refused)},
        constraint=Constraint.POLL_BUDGET if refused else None,
        limit=LimitName.RETRIEVAL if refused else None,
    )


def found(*levels: Level, multiplier: float | None) -> Capacity:
    """A search with these levels."""
    return Capacity(
        scenario="mine",
        title="How <many>?",
        stage="steady",
        target="Load goes nowhere.",
        base_rates={"jobs": 5.0},
        multiplier=multiplier,
        low=multiplier and multiplier * 0.95,
        high=multiplier and multiplier * 1.05,
        constraint=Constraint.POLL_BUDGET if multiplier else None,
        limit=LimitName.RETRIEVAL if multiplier else None,
        sentence="About 1,200 jobs a minute: `probe <a>`." if multiplier else "No answer: it was interrupted.",
        reasons=("With one retrieval a job, more.",),
        levels=levels,
        guesses=(),
        exit_code=0 if multiplier else 6,
    )


def test_the_page_has_answer_picture_and_every_level(tmp_path: Path) -> None:
    """In HTML and Markdown, what a scenario says escaped, and a picture that names the constraint."""
    save(found(level(4.4, 0.056), level(3.6, 0.0), multiplier=4.0), tmp_path)
    assert make_pages(FILE_NAME, build, [str(tmp_path)]) == 0
    page, text = ((tmp_path / name).read_text() for name in ("capacity.html", "capacity.md"))
    assert "<code>probe &lt;a&gt;</code>" in page
    assert "How &lt;many&gt;?" in page
    for written in (page, text):
        assert "About 1,200 jobs a minute" in written
        assert "poll budget: retrieval, 5.6 % got 429" in written.replace("\u00a0", " ")
        assert "Bottleneck above 3.8 to 4.2 times the rate: polls, which exhaust the retrieval limit" in written
        assert written.index("levels/3.6") < written.index("levels/4.4")
    assert (tmp_path / "plots" / "capacity.svg").stat().st_size > 0


def test_a_search_without_a_level_has_a_page_too(tmp_path: Path) -> None:
    """It says why there is no answer."""
    save(found(multiplier=None), tmp_path)
    assert make_pages(FILE_NAME, build, [str(tmp_path)]) == 0
    assert "No answer: it was interrupted." in (tmp_path / "capacity.html").read_text()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Exit code 2 or the like, and no page."""
    assert make_pages(FILE_NAME, build, [str(tmp_path)]) != 0
    assert not (tmp_path / "capacity.html").exists()
