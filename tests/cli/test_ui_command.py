"""``loadtest ui``: Locust's web UI over real HTTP, and once in a browser."""

import re
import socket

import httpx
import psutil
import pytest
from plugins.browser import chromium
from plugins.processes import Fixture, until
from plugins.records import runs_in

MARKER = "s3cr3t-ui-0451"
START = {"user_count": "1", "spawn_rate": "1"}


ABOVE = """
title = "Above <b>the limit</b>"
seed = 1
drain = "2s"
[target]
enforce = { sync_run = "20/1s" }
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "only", rate = "40/s", duration = "%s" }]
"""


def test_it_is_closed_to_everybody_else(web_ui: Fixture, serve: Fixture) -> None:
    """Foreign names, origins and sites are refused on every path, hosts beyond this machine too; no key is shown. When
    `loadtest ui` is killed, Locust ends by itself.
    """
    known = {"WORKFLOW_API_KEYS": MARKER, "WORKFLOW_ENDPOINT": MARKER + "e"}
    up = web_ui(ABOVE % "1s", "--host", serve(WORKFLOW_API_KEYS=MARKER).url, **known)
    port = httpx.URL(up.url).port
    for path in ("/", "/stats/requests", "/runs", "/runs.json", "/no-such"):
        for host in ("evil.example", f"evil.example:{port}", "[::1", "127.0.0.1.evil.example"):
            assert up.ask("GET", path, headers={"Host": host}).status_code == 403, (path, host)
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ):
        for method, path in (("POST", "/swarm"), ("POST", "/stop"), ("OPTIONS", "/swarm"), ("GET", "/stats/requests")):
            answer = up.ask(method, path, headers=headers, data=START if method == "POST" else None)
            assert answer.status_code == 403, (method, path, headers)
    for host in ("http://192.0.2.1", "http://example.invalid", "", "http://key@127.0.0.1", "file:///etc/passwd"):
        assert up.ask("POST", "/swarm", data={**START, "host": host}).json()["success"] is False, host
    for field in ({"seed": "-1"}, {"seed": "x"}, {"rate_multiplier": "nan"}, {"rate_multiplier": "0"}):
        answer = up.start(**field)
        assert answer["success"] is False
        assert next(iter(field)) in answer["message"]
    assert up.ask("POST", "/user", json={"user_class_name": "greetings", "fixed_count": 99}).status_code == 403
    assert not runs_in(up.reports), "nothing was started"
    for path in ("/", "/stats/requests", "/runs", "/runs.json", "/runs/none/report.html", "/no-such"):
        headers = up.ask("GET", path).headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path
    for path in ("/runs/none/report.html", "/runs/../report.html", "/runs/%2e%2e/report.html"):
        assert up.ask("GET", path).status_code == 404, path

    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    own = [{}, {"Origin": up.url}, {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}, link]
    pages = [up.ask("GET", "/", headers=headers) for headers in own]
    assert {page.status_code for page in pages} == {200}
    assert up.ask("GET", "/stats/requests", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    for shown in [*(page.text for page in pages), up.started.said, up.started.complained]:
        assert MARKER not in shown
    assert not [each.cmdline() for each in up.started.family() if MARKER in " ".join(each.cmdline())]
    listening = {
        connection.laddr
        for process in up.started.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port)}
    (child,) = up.started.family()[1:]
    up.started.process.kill()
    until(lambda: not child.is_running())


@pytest.mark.parametrize("words", ["ui --port", "run --metrics-port"])
def test_a_port_that_is_taken_is_said(loadtest: Fixture, tiny: Fixture, words: str) -> None:
    """The port is taken: a sentence, exit code 2, nothing is started."""
    verb, option = words.split()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = loadtest(verb, tiny(), option, port)
    assert said.code == 2
    assert f"{option} {port}: cannot listen there" in said.err
    assert said.out == ""


@pytest.mark.heavy
@pytest.mark.browser
def test_a_person_starts_a_run_in_a_browser(web_ui: Fixture) -> None:
    """The form names targets that may not or cannot be loaded; a start runs the form's settings; 429s are a row; its
    report opens.
    """
    up = web_ui(ABOVE % "2s")
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1200, "height": 1000})
        page = context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda told: problems.append(told.text) if told.type == "error" else None)
        page.goto(up.url)
        strip = page.get_by_label("Scenario and target")
        for shown in ("Above <b>the limit</b>", "live, 2 s", "only: 40/s for 2 s", "(embedded)", "stages set the load"):
            assert shown in strip.inner_text()
        host, start = page.get_by_label("Host"), page.get_by_role("button", name=re.compile("start", re.IGNORECASE))
        own = host.input_value()
        for url, answer in (
            ("http://192.0.2.1", "is not a loopback address"),
            ("http://127.0.0.1:1", "http://127.0.0.1:1 refuses connections. Start the server"),
        ):
            host.fill(url)
            start.click()
            page.get_by_text(answer).first.wait_for()
        host.fill(own)
        page.get_by_text("Custom parameters").last.click()
        page.get_by_label(re.compile("^seed", re.IGNORECASE)).fill("7")
        page.get_by_label(re.compile("rate multiplier", re.IGNORECASE)).fill("2")
        start.click()
        page.get_by_role("cell", name="greetings 429", exact=True).first.wait_for(timeout=60_000)
        page.get_by_role("link", name="Open its report").wait_for(timeout=60_000)
        with context.expect_page() as opened:
            page.get_by_role("link", name="Open its report").click()
        assert "Above <b>the limit</b>" in opened.value.locator("h1").inner_text()
        # The live page, opened late, has the run as well.
        opened.value.goto(up.url + "/workflow")
        opened.value.get_by_role("link", name="Report of this run").wait_for()
        assert "Above <b>the limit</b>" in opened.value.locator("h1").inner_text()
        opened.value.locator("#f-greetings .alarm", has_text="got 429").wait_for()
        opened.value.goto(up.url + "/stats/report")
        assert "rounded to two digits" in opened.value.locator("body").inner_text()
    assert problems == []
    (run,) = runs_in(up.reports)
    run.check_conservation()
    assert (run.info.seed, run.info.scenario.effective["rate_multiplier"], len(run.operations)) == (7, 2.0, 160)


JOBS = """
title = "Twenty times"
drain = "2s"
[target]
enforce = { async_submit = "100000/1s", retrieval = "100000/1s" }
[traffic.jobs]
operation = "async_run"
workflow = "echo"
stages = [{ name = "only", rate = "200/s", duration = "%s" }]
"""


@pytest.mark.heavy
def test_twenty_starts_and_stops_leave_memory_and_threads_flat(web_ui: Fixture) -> None:
    """Of Locust's process: what the last fifteen runs add is less than a run of its own would keep. All are whole."""
    up = web_ui(JOBS % "60s")
    locust = up.started.find("locust")
    assert locust is not None

    def phase() -> str:
        return up.ask("GET", "/runs.json").json()["phase"]

    seen: list[tuple[int, int, int]] = []
    for _ in range(20):
        until(lambda: up.state() in {"ready", "stopped"} and phase() == "over")
        assert up.start()["success"] is True
        until(lambda: phase() == "running")
        assert up.ask("POST", "/stop").status_code == 200
        until(lambda: "reported" in up.ask("GET", "/runs.json").text or phase() == "over")
        seen.append((locust.memory_info().rss, locust.num_threads(), locust.num_fds()))
    until(lambda: len(list(up.reports.glob("2*/report.html"))) == 20, seconds=120)
    assert locust.memory_info().rss - seen[4][0] < 8 * 2**20, seen
    # The last report's process, and the thread that waited for it, may not have ended yet.
    until(lambda: locust.num_threads() <= seen[4][1] and locust.num_fds() <= seen[4][2])
    up.end()
    for run in runs_in(up.reports):
        run.check_conservation()
        assert run.info.end == "interrupted"
