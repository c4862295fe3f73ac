"""Plain ``locust`` in the checkout: the same runs, under Locust's own command line and exit codes."""

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from plugins.launched import AS_SHOWN, ROOT, in_session, metrics_at, page_at
from plugins.processes import Fixture, clean_environment, until
from plugins.records import runs_in
from plugins.verbs import until_valid

from loadtest.errors import ExitCode

LIMITED = """
title = "A limit of %s a second"
seed = 1
drain = "3s"
[traffic.greetings]
operation = "sync_run"
workflow = "say-hello"
stages = [{ name = "only", rate = "40/s", duration = "1s"%s }]
"""


@pytest.fixture
def locust(launch: Fixture, tmp_path: Path) -> Fixture:
    """Start `locust --headless` with a scenario's text against a URL."""

    def start(text: str, url: str, *arguments: str, **environment: str) -> Any:
        path = tmp_path / f"plain{len(list(tmp_path.glob('plain*')))}.toml"
        path.write_text(text)
        variables = {
            "LOADTEST_SCENARIO": str(path),
            "LOADTEST_OUTPUT_DIR": str(tmp_path / "out"),
            "LOADTEST_PREFLIGHT": "0",
            **environment,
        }
        return launch("locust", "--headless", "--host", url, *arguments, **variables)

    return start


def test_it_runs_the_scenario_and_records_it(locust: Fixture, serve: Fixture, tmp_path: Path) -> None:
    """A whole record, the scenario's number of arrivals, and Locust's own table with fixed names; async runs are not in
    its total, their requests are. Locust counts an expected 429 as a success, any other as a failure.
    """
    text = LIMITED % ("three jobs", "")
    for name, bound, expect in (("jobs", "> 0", ", expect = [429]"), ("lookups", "== 0", "")):
        text += f'[[threshold]]\ntraffic = "{name}"\nrequire = "throttled_rate {bound}"\n[traffic.{name}]\n'
        text += 'operation = "async_run"\nworkflow = "echo"\npolling = { interval = "50ms", give_up = "5s" }\n'
        text += f'stages = [{{ name = "within", rate = "4/s", duration = "3s"{expect} }}]\n'

    def make() -> Any:
        url = serve("--limit", "async_submit=3/1h").url
        return locust(text, url, *AS_SHOWN, str(tmp_path / "csv"), "--csv-full-history")

    run = until_valid(make)
    assert run.code == ExitCode.FAIL, run.complained
    found = runs_in(tmp_path / "out")[-1]
    found.check_conservation()
    fates = Counter((row["traffic"], row["outcome"]) for row in found.operations)
    refused = {name: fates[name, "throttled"] for name in ("jobs", "lookups")}
    assert (fates["greetings", "ok"], sum(refused.values()), fates.total()) == (40, 21, 64)
    judged = json.loads((found.directory / "metrics.json").read_text())["thresholds"]
    assert [each["judgement"] for each in judged] == ["pass", "fail"]
    rows = (tmp_path / "csv_stats.csv").read_text().splitlines()
    counts = {tuple(row.split(",")[:2]): int(row.split(",")[2]) for row in rows[1:]}
    requests = Counter((row["kind"], row["traffic"] + " 429" * (row["status"] == 429)) for row in found.requests)
    assert counts.pop(("", "Aggregated")) == requests.total()
    runs = {("async_run", name): 12 - count for name, count in refused.items() if count < 12}
    assert counts == {**requests, **runs}
    failed = (tmp_path / "csv_failures.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in failed] == [["submit", "lookups 429"]]
    assert f",{refused['lookups']}," in failed[0]
    assert "429 rate_limit_exceeded" in failed[0]
    assert "Traceback" not in run.said + run.complained


def test_entries_are_chosen_by_name_and_run_as_the_command_line_says(locust, open_api, tmp_path):
    """Two of five entries, called like names of the code, with another seed, half of their rates and twice their time;
    their thresholds alone count. Locust's own report has its label, and our closing block is the last output.
    """
    names = ("locust", "Engine", "Path", "logging", "WholePool")
    text = 'title = "t"\ndrain = "1s"\n' + "".join(
        f'[traffic.{name}]\noperation = "sync_run"\nworkflow = "echo"\n'
        'stages = [{ name = "s", rate = "20/s", duration = "500ms" }]\n'
        f'[[threshold]]\ntraffic = "{name}"\nrequire = "throttled_rate {"> 1" if name == "Path" else "== 0"}"\n'
        for name in names
    )
    page = tmp_path / "own.html"
    options = ("locust", "Engine", "--seed", "9", "--rate-multiplier", "0.5", "-t", "1s", "--html", str(page))
    run = until_valid(lambda: locust(text, open_api.url, *options))
    assert run.code == 0, run.complained
    found = runs_in(tmp_path / "out")[-1]
    assert Counter(row["traffic"] for row in found.operations) == {"locust": 10, "Engine": 10}
    assert (found.info.seed, found.info.scenario.effective["rate_multiplier"]) == (9, 0.5)
    assert [each["traffic"] for each in found.info.scenario.effective["threshold"]] == ["locust", "Engine"]
    assert (found.directory / "report.html").is_file()
    assert "rounded to two digits" in page.read_text()
    assert run.said.splitlines()[-1].startswith("next ")
    assert "spawn rate is very high" not in run.complained + run.said


def test_a_started_page_below_another_path_ends_with_the_verdict(locust, open_api, tmp_path, free_port):
    """--autostart and --web-base-path: the page has the scenario, the run is reported, a broken threshold gives 1."""
    text = LIMITED % ("<i>no</i>", "") + '[[threshold]]\ntraffic = "greetings"\nrequire = "throttled_rate > 50%"\n'
    web = ("--headful", "--web-port", str(free_port), "--web-base-path", "/lt", "--autostart", "--autoquit", "1")
    run = locust(text, open_api.url, *web)
    pages: dict[str, str] = {}

    def answered() -> bool:
        for path in ("/lt/", "/lt/runs"):
            pages[path] = page_at(f"http://127.0.0.1:{free_port}{path}") or pages.get(path, "")
        return all(pages.get(path) for path in ("/lt/", "/lt/runs"))

    until(answered)
    assert "A limit of &lt;i&gt;no&lt;/i&gt; a second" in pages["/lt/"]
    assert 'href="/lt/runs"' in pages["/lt/"]
    assert run.wait() in {ExitCode.FAIL, ExitCode.INVALID}, run.complained
    assert list((tmp_path / "out").glob("2*/report.html"))


REFUSED = {
    "-u 5 -r 2.5 -t 30s": "-u/--users and -r/--spawn-rate: ",
    "-r 2.5": "--rate-multiplier X",
    "--port 1": "--web-port",
    "-s 5": "drain",
    "--tags a b": "locust greetings",
    "-E a": "locust greetings",
    '--config-users {"user_class_name":"a"}': "traffic.NAME",
    "--equal-weights": "rate",
    "--class-picker": "locust greetings",
    "--exit-code-on-error 0": "verdict",
    "--web-login": "--web-login",
    "--web-host 0.0.0.0": "SSH tunnel",
    "--web-host *": "reverse proxy",
    "--metrics-port 70000": "cannot listen there",
}
ASK = """
import shlex, sys
import locust
from loadtest.errors import InputError
from loadtest.load.locust_test import parse_command_line

for words in sys.argv[1:]:
    sys.argv = ["locust", *words.split(" ")]
    try:
        parse_command_line({})
        print("taken")
    except InputError as error:
        print(str(error).replace(chr(10), " "))
"""


def test_what_locust_would_do_otherwise_is_refused() -> None:
    """Each option in one sentence that says where the scenario says it; what works or does no harm is taken."""
    taken = [
        "--headless --web-host 0.0.0.0",
        "--worker -u 5",
        "-H http://127.0.0.1 --csv a --processes 2",
        "-P 1 --otel",
    ]
    done = subprocess.run(
        [sys.executable, "-c", ASK, *REFUSED, *taken],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    said = done.stdout.splitlines()
    assert said[len(REFUSED) :] == ["taken"] * len(taken)
    for names, sentence in zip(REFUSED.values(), said, strict=False):
        assert names in sentence, sentence


@pytest.mark.heavy
def test_stopping_it_early_is_an_interrupted_run(locust, open_api, tmp_path, *, free_port):
    """Ctrl-C or SIGTERM ends Locust; every arrival that was offered has an outcome. Until then, `--metrics-port` serves
    what it does.
    """
    text, url = (LIMITED % ("no", "")).replace('"1s"', '"60s"'), open_api.url
    runs = {}
    for number, options in {signal.SIGINT: ("--metrics-port", str(free_port)), signal.SIGTERM: ()}.items():
        runs[number] = locust(text, url, *options, LOADTEST_OUTPUT_DIR=str(tmp_path / number.name))
    for number, run in runs.items():
        until(lambda number=number: (all_ := runs_in(tmp_path / number.name)) and all_[0].epoch)
        if number == signal.SIGINT:
            until(lambda: metrics_at(free_port).get("loadtest_requests_total", 0) > 0)
        run.process.send_signal(number)
    for number, run in runs.items():
        run.wait()
        (found,) = runs_in(tmp_path / number.name)
        found.check_conservation()
        assert found.info.end == "interrupted"


FORKED = """
import json, os, sys

import locust
from locust.main import main
import loadtest.load.locust_process  # what the locustfile imports, once for all

for number, (folder, arguments, variables) in enumerate(json.load(sys.stdin)):
    if not (process := os.fork()):
        os.setsid()
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT), descriptor)
        os.environ.update(variables)
        sys.argv = ["locust", *arguments]
        main()
        os._exit(70)
    print(process, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
LOOKS = """
title = "t"
[traffic.looks]
operation = "retrieval"
workflow = "no-such"
stages = [{ name = "s", rate = "10/s", duration = "1s" }]
"""
WORKERS = ("--processes", "2")
WRONG = {
    "not loopback": ("", "http://192.0.2.1", "", "2: loopback"),
    "bad scenario": ("title = 5", "http://127.0.0.1:1", "", "2: title"),
    "nobody listens": ("", "http://127.0.0.1:1", "", "5: http://127.0.0.1:1 refuses connections"),
    # The sentence names the variable, not its value.
    "a key that no header can carry": ("", "http://127.0.0.1:1", "s3cret key", "2: WORKFLOW_API_KEYS"),
    "a run that cannot begin": (LOOKS, "", "", "5: could not be seeded"),
    "a file where the runs' folder should be": ("", "", "", "2: cannot create a run directory"),
}


def test_what_it_refuses(open_api: Any, tmp_path: Path) -> None:
    """A sentence and our exit code instead of a traceback; no operation is recorded, and no worker waits.

    Each command line has a process of its own, forked from one that has imported Locust.
    """
    orders = []
    for number, (text, url, key, wanted) in enumerate(WRONG.values()):
        (folder := tmp_path / f"{number}").mkdir()
        (folder / "s.toml").write_text(text or LIMITED % ("no", ""))
        runs = folder / ("s.toml" if wanted.endswith("directory") else "runs")
        variables = {"LOADTEST_SCENARIO": str(folder / "s.toml"), "LOADTEST_OUTPUT_DIR": str(runs)}
        variables |= {"LOADTEST_PREFLIGHT": "0", **({"WORKFLOW_API_KEYS": key} if key else {})}
        words = ["--headless", "--host", url or open_api.url, *(WORKERS if url else ())]
        orders.append((str(folder), words, variables))
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        input=json.dumps(orders),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=clean_environment(),
        cwd=ROOT,
        timeout=100,
    )
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    for number, ((process, code), (_, _, key, wanted)) in enumerate(zip(found, WRONG.values(), strict=True)):
        out, err = ((tmp_path / f"{number}" / name).read_text() for name in ("out", "err"))
        expected, _, sentence = wanted.partition(": ")
        assert (code, sentence in err) == (int(expected), True), err
        assert "Traceback" not in err
        assert not key or key not in out + err
        until(lambda process=process: not in_session(process))
        assert not any(run.operations for run in runs_in(tmp_path / f"{number}" / "runs"))
