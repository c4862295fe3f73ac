"""The live page in Chromium, from the form to the report: what a person sees."""

import re
import shutil
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from plugins.launched import WebUi
from plugins.processes import Fixture, until
from plugins.records import runs_in

_AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def opened(browser: Any, problems: list[str], width: int = 1280, scheme: str = "light") -> Any:
    """A new window; what its console complains of is noted."""
    page = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=False, reduced_motion="reduce"
    ).new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type in {"error", "warning"} else None)
    return page


def number(page: Any, traffic: str, term: str) -> int:
    """A figure of a traffic entry."""
    pair = page.locator(f"#f-{traffic} div", has=page.locator("dt", has_text=re.compile(f"^{term}$")))
    return int(pair.locator("dd").inner_text().replace(",", ""))


def drawn(page: Any) -> int:
    """Charts whose lines have left zero."""
    count: int = page.evaluate(
        """() => [...document.querySelectorAll(".plot")].filter((plot) =>
            [...plot.querySelectorAll(".series path")].some((line) => line.getBBox().height > 20)).length"""
    )
    return count


def pointed_at(page: Any) -> list[str]:
    """The rows that the first chart shows at the pointer."""
    page.locator(".plot").first.hover()
    rows: list[str] = page.locator(".plot").first.locator(".tip > div").all_inner_texts()
    return rows


def check_with_axe(browser: Any, url: str, width: int, scheme: str) -> None:
    """Nothing serious, and nothing wider than the window."""
    page = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    ).new_page()
    page.goto(url)
    page.locator("#lights li, tbody tr").first.wait_for()
    page.evaluate(_AXE)
    found = page.evaluate("axe.run()")["violations"]
    serious = [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


@pytest.mark.browser
@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_person_watches_a_run(live_ui: Fixture, browser: Any, title: str) -> None:
    """On one worker and on two: form, watch, late windows, stop, report, start again, reload, Ctrl-C; the console is
    silent, and all runs are whole.
    """
    for workers in (1, 2):
        up = live_ui("600s", "--processes", str(workers))
        watch(up, browser, title, workers)
        shutil.rmtree(up.reports)


def watch(up: WebUi, browser: Any, title: str, workers: int) -> None:
    """Do what a person does with a web UI, from the form to Ctrl-C."""
    problems: list[str] = []
    form, live = opened(browser, problems), opened(browser, problems)
    live.goto(f"{up.url}/workflow")
    live.get_by_role("heading", name="No test has been started yet").wait_for()
    # Locust's form keeps its Start button disabled if it reads statistics from before a worker joined (they are cached
    # for 2 s) after it has read the new number of workers.
    until(lambda: up.get("/stats/requests").json().get("worker_count") == workers)
    form.goto(up.url)
    form.get_by_role("link", name="Workflow API, live").first.wait_for()
    form.get_by_role("button", name=re.compile("start", re.IGNORECASE)).click()
    # Text, never markup.
    live.get_by_role("heading", name=title, exact=True).wait_for()
    assert live.locator("h1 b").count() == 0
    until(lambda: number(live, "greetings", "got 429") > 0 and drawn(live) > 0)
    assert [row.split()[0] for row in pointed_at(live)] == ["second", "offered", "sent", "accepted", "429", "failed"]
    until(lambda: number(live, "jobs", "in flight") > 0)
    form.get_by_role("tab", name="Workflow API").click()
    until(lambda: form.get_by_role("row", name=re.compile("^greetings (calm|above)")).count() == 1)
    assert form.get_by_role("link", name="Workflow API, live ↗").get_attribute("href") == "workflow"
    # Whoever comes late, on a phone and in the dark, sees the test from its start.
    phone = opened(browser, problems, width=390, scheme="dark")
    phone.goto(f"{up.url}/workflow")
    phone.locator("summary").first.click()
    phone.locator("details[open] tbody tr").first.wait_for()
    assert phone.locator("details[open] tbody tr").last.locator("td").first.inner_text() == "1"
    for scheme in ("light", "dark"):
        for path in ("/workflow", "/runs"):
            check_with_axe(browser, up.url + path, 390, scheme)
    sent = number(live, "greetings", "requests sent")
    live.reload()
    until(lambda: number(live, "greetings", "requests sent") > sent)
    live.emulate_media(color_scheme="dark")
    form.get_by_role("button", name=re.compile("stop", re.IGNORECASE)).click()
    for page in (live, phone):
        page.locator("#phase", has_text="interrupted").wait_for(timeout=60_000)
        page.get_by_role("link", name="Report of this run").wait_for(timeout=60_000)
    (run,) = runs_in(up.reports)
    assert number(live, "greetings", "got 429") == sum(row["status"] == 429 for row in run.requests)
    # Open pages show the next run without being touched.
    form.reload()  # Locust's own page asks only while a test runs, and may miss its end
    form.get_by_role("button", name=re.compile("new", re.IGNORECASE)).first.click()
    form.get_by_role("button", name=re.compile("start", re.IGNORECASE)).last.click()
    until(lambda: live.locator("#phase").inner_text() == "running" and number(live, "greetings", "offered") > 0)
    assert live.get_by_role("link", name="Report of this run").count() == 0
    with up.watched() as late:
        assert next(late)["run"]["id"] == runs_in(up.reports)[-1].info.id != run.info.id
    live.locator("#phase", has_text="running").wait_for()
    assert problems == []
    up.end()
    for run in runs_in(up.reports):
        run.check_conservation(ragged=True)
        assert run.info.end == "interrupted"
        assert {row["worker"] for row in run.operations} == set(range(1, workers + 1))
        assert (run.directory / "report.html").is_file()
