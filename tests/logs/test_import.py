"""Logs become the record of an imported run, which keeps neither keys, addresses nor paths."""

import gzip
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugins.records import read_table
from plugins.small_logs import COMBINED, HAR

from loadtest.cli import app
from loadtest.errors import InputError
from loadtest.logs.formats import masked
from loadtest.logs.importing import ImportOptions, import_logs
from loadtest.record import run_directory
from loadtest.record.run_info import RunInfo
from loadtest.scenario import load_scenario

SECRET = "sk-very-secret"
NGINX = {"msec": "1760104536.250", "request": "GET /v1/workflows/jobs/abc?x=1 HTTP/1.1", "status": "200",
         "request_time": "0.050", "remote_addr": "192.0.2.7", "http_x_api_key": SECRET}  # fmt: skip
CADDY = {"ts": 1760104536.5, "duration": 0.25, "status": 429, "size": 7,
         "request": {"method": "POST", "uri": "/v1/workflows/jobs", "host": "api.example", "client_ip": "192.0.2.8",
                     "headers": {"X-Api-Key": [SECRET]}},
         "resp_headers": {"Retry-After": ["3"]}}  # fmt: skip


def imported(folder: Path, text: str | bytes, **options: object) -> tuple[RunInfo, list[dict[str, object]], Path]:
    """The run.json, request rows and directory of a log's import."""
    log = folder / "access.log"
    log.write_bytes(text if isinstance(text, bytes) else text.encode())
    chosen = ImportOptions(limits={}, **options)  # type: ignore[arg-type] # as given
    directory = import_logs([str(log)], folder / "reports", chosen)
    rows = [row for row in read_table(directory).to_pylist() if row["row"] == "request"]
    return run_directory.load(directory), rows, directory


def test_a_combined_log_has_one_operation_and_request_a_line(tmp_path: Path) -> None:
    """Lines are sorted by time, in UTC; without durations there is no end; intended starts are unknown."""
    info, rows, _ = imported(tmp_path, COMBINED.format(second=9, status=429) + COMBINED.format(second=6, status=200))
    assert [(row["status"], row["start"], row["end"], row["intended_start"]) for row in rows] == [
        (200, 0, None, None),
        (429, 3 * 10**9, None, None),
    ]
    assert info.imported
    assert info.samples == 4
    assert info.started.startswith("2025-10-10T13:55:36")
    assert info.source is not None
    assert (info.source.format, info.source.grain_s, info.source.key) == ("combined", 1.0, "address")
    assert [stage.name for plan in info.traffic.values() for stage in plan.stages] == ["log"]


def test_json_lines_of_nginx_and_caddy_are_read_together(tmp_path: Path) -> None:
    """A stamp at a request's end less its duration is its start; keys become numbers; Retry-After is kept."""
    text = "".join(json.dumps(line) + "\n" for line in (CADDY, NGINX))
    info, rows, directory = imported(tmp_path, gzip.compress(text.encode()))
    assert [(row["operation"], row["kind"], row["start"], row["end"], row["key_index"]) for row in rows] == [
        ("retrieval", "retrieve", 0, 50_000_000, 0),
        ("async_run", "submit", 50_000_000, 300_000_000, 0),
    ]
    assert rows[1]["retry_after"] == "3"
    assert info.source is not None
    assert (info.source.key, info.source.service_times, info.source.grain_s) == ("header", True, 0.001)
    kept = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    for private in (SECRET, "192.0.2", "api.example", "abc", "x=1"):
        assert private.encode() not in kept


def test_what_is_not_ours_is_counted(tmp_path: Path) -> None:
    """Half a line, another format and other paths are left out and counted, and so are the clients of other paths."""
    lines = COMBINED.format(second=6, status=200)
    lines += (
        lines.replace("/run", "/other").replace("192.0.2.7", "192.0.2.9")
        + "nonsense\n"
        + COMBINED.format(second=7, status=200)[:90]
    )
    info, rows, _ = imported(tmp_path, lines)
    assert len(rows) == 1
    assert info.source is not None
    assert (info.source.lines, info.source.unknown_lines, info.source.other_lines, info.keys) == (4, 2, 1, 1)


def test_a_fraction_of_a_millisecond_is_one(tmp_path: Path) -> None:
    """Stamps in ms with a fraction, of a JSON log with a line of deep brackets, are exact to the fraction."""
    stamps = ("1760104536250.25", "1760104536250.75")
    text = "".join(json.dumps(NGINX | {"msec": stamp, "request_time": "0"}) + "\n" for stamp in stamps)
    info, rows, _ = imported(tmp_path, '{"a":' + "[" * 100_000 + "\n" + text)
    assert [row["start"] for row in rows] == [0, 500_000]
    assert info.source is not None
    assert (info.source.unknown_lines, info.source.grain_s) == (1, pytest.approx(1e-5))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("what a secret-123 log\n", "x x x-9 x"),
        (COMBINED.format(second=6, status=200).replace("/run", "/walk"), "--map"),
        ("\x1f\x8bnonsense", "gzip -t"),
        (json.dumps({"log": "secret-1 - -", "stream": "stdout"}), "in no known format"),
        (json.dumps(HAR).replace("http://api.example", "http://[secret"), "(1 line read)"),
        (json.dumps(NGINX) + "\n" + json.dumps(NGINX | {"msec": "1000"}) + "\n", "100 days"),
        (
            "".join(json.dumps(NGINX | {"host": host}) + "\n" for host in ("a.example", "b.example")),
            "--host",
        ),
    ],
)  # fmt: skip
def test_nothing_left_is_an_error_with_a_remedy(tmp_path: Path, text: str, named: str) -> None:
    """An empty log, no format, no path of ours, damaged compression and two hosts are answered clearly."""
    with pytest.raises(InputError) as error:
        imported(tmp_path, text.encode("latin-1"))
    assert named in str(error.value)
    assert "secret" not in str(error.value)
    assert not (tmp_path / "reports").exists()


HAPROXY = (
    "Nov 28 21:50:23 lb haproxy[7]: 192.0.2.7:45230 [28/Nov/2026:21:50:23.545] a b/s 0/0/1/0/40 {status} 124 - - ---- "
    '1/1/0/0/0 0/0 {{sk-very-secret|x}} "POST /v1/workflows/run HTTP/1.1"\n'
)
OWN = '[{when}] 192.0.2.7 "POST /walk/7/go" 200 0.040\n'


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (HAPROXY.format(status=-1), {}, ("haproxy", "start", 0.001, None, 0)),
        (OWN.format(when="2026-11-28T21:50:23,545Z"),
         {"format": '[$time] $address "$request" $status $request_time', "maps": ("POST /walk/*/go=sync_run",)},
         ("fields", "end", 0.001, 200, 0)),
    ],
)  # fmt: skip
def test_haproxy_and_own_fields(tmp_path: Path, text: str, options: dict[str, object], expected: object) -> None:
    """HAProxy's lines have a key and no zone; a format of one's own names its fields, and --map its paths."""
    info, rows, _ = imported(tmp_path, text, **options)
    assert info.source is not None
    source = info.source
    assert (source.format, source.stamp, source.grain_s, rows[0]["status"], rows[0]["key_index"]) == expected
    assert (rows[0]["operation"], rows[0]["end"]) == ("sync_run", 40_000_000)
    assert source.zone == (source.format == "fields")


def test_a_har_file_has_times_and_limits_only(tmp_path: Path) -> None:
    """Neither bodies, cookies nor other headers of a HAR file are kept; status 0 is no answer."""
    header = {"name": "X-RateLimit-Limit", "value": "100"}
    entries = [
        {"startedDateTime": f"2026-11-28T21:50:2{second}.000+01:00", "time": 12.5,
         "request": {"method": "GET", "url": f"https://u:{SECRET}@api.example/v1/workflows/jobs/{SECRET}?k={SECRET}",
                     "headers": [{"name": "Cookie", "value": SECRET}, {"name": "X-API-Key", "value": SECRET}]},
         "response": {"status": status, "headers": [header, {"name": "Set-Cookie", "value": SECRET}],
                      "content": {"text": SECRET}}}
        for second, status in ((1, 200), (2, 0))
    ]  # fmt: skip
    info, rows, directory = imported(tmp_path, json.dumps({"log": {"version": "1.2", "entries": entries}}))
    assert [(row["status"], row["outcome"], row["rate_limit"], row["key_index"]) for row in rows] == [
        (200, "ok", "x-ratelimit-limit: 100", 0),
        (None, "failed", "x-ratelimit-limit: 100", 0),
    ]
    assert info.source is not None
    assert info.source.format == "har"
    kept = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept
    assert b"api.example" not in kept


@given(
    cut=st.integers(0, 100), line=st.sampled_from([COMBINED.format(second=6, status=200), HAPROXY.format(status=200)])
)
@settings(max_examples=settings.default.max_examples // 4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_line_cut_anywhere_changes_nothing(tmp_path: Path, cut: int, line: str) -> None:
    """A cut last line is counted and left out, unless all of its fields are there."""
    info, rows, _ = imported(tmp_path, line * 2 + line[: cut * (len(line) - 1) // 100])
    assert {(row["status"], row["start"], row["end"], row["bytes_received"]) for row in rows} == {
        (200, 0, rows[0]["end"], rows[0]["bytes_received"])
    }
    assert info.source is not None
    assert len(rows) == info.source.lines - info.source.unknown_lines
    assert len(rows) >= 2 + (cut == 100)


@pytest.mark.parametrize("line", [json.dumps(NGINX), '192.0.2.7 - - [10/Oct/2025:13:55:36 +0000] "POST /run" 200 120'])
def test_a_last_request_without_a_line_end_is_in_the_figures(tmp_path: Path, line: str) -> None:
    """It counts whether it takes time or not; a line whose last number is shorter than before may be cut."""
    options = {"maps": ("POST /run=sync_run",)}
    assert len(imported(tmp_path, "\n".join([line] * 3), **options)[1]) == 3
    assert len(imported(tmp_path, "\n".join([line] * 3)[:-1], **options)[1]) == 2


@given(st.binary(max_size=300))
def test_a_masked_line_holds_no_word(line: bytes) -> None:
    """Of any line, an example shows no letter but x, no digit but 9, and nothing that a terminal acts on."""
    assert re.fullmatch(r"[x9?\x20-\x2f:-@\[-`{-~]{0,160}", masked(line))
    assert not re.search(r"xx|99", masked(line))


def test_a_masked_line_keeps_its_form_only() -> None:
    """Letters and digits of an example line are replaced."""
    assert masked(b'10.0.0.7 "GET /jobs/a8f" key=\xc3\xa9\n') == '9.9.9.9 "x /x/x9x" x=x'


def run(*arguments: str) -> Result:
    """A verb's result."""
    return CliRunner().invoke(app, list(arguments), standalone_mode=False)


def test_import_ends_with_three_lines(tmp_path: Path) -> None:
    """Requests by operation, 429s and the limit; the page says what a log can't know; such a run is no baseline."""
    log = tmp_path / "access.log"
    submit = NGINX | {"request": "POST /v1/workflows/jobs HTTP/1.1", "status": "202"}
    log.write_text("".join(json.dumps(line) + "\n" for line in (NGINX, NGINX, submit)))
    done = run("import", str(log), "--output-dir", str(tmp_path / "reports"), "--no-plots")
    assert done.return_value == 0
    assert "retrieval 2" in done.output.splitlines()[-3]
    directory = run_directory.find_run(str(tmp_path / "reports" / "latest"))
    metrics = json.loads((directory / "metrics.json").read_text())
    assert (metrics["verdict"], metrics["exit_code"], metrics["validity"]) == ("imported", 0, [])
    assert "at most 2 in 60 s" in metrics["reasons"][-1]
    assert metrics["traffic"]["retrieval"]["response_time_ms"]["n"] == 2
    assert metrics["traffic"]["retrieval"]["start_lag_ms"]["n"] == 0
    submitted = metrics["traffic"]["async_run"]
    assert (submitted["operations"]["ok"], submitted["time_to_result_ms"]["n"]) == (1, 0)
    assert "Unknown to a log" in (directory / "report.md").read_text()
    assert "intended" not in (directory / "report.html").read_text()
    refused = run(
        "regression", "accept", str(directory), "--history", str(tmp_path), "--reason", "agreed with its users"
    )
    assert isinstance(refused.exception, InputError)
    assert "imported" in str(refused.exception)


def test_a_scenario_offers_a_runs_traffic_again(tmp_path: Path) -> None:
    """`init --from-run` writes each operation's rates in parts of the log's time, and its keys and limits."""
    lines = [
        NGINX | {"msec": f"{1760104536 + at}.000", "http_x_api_key": f"key-{at % 2}", "request": request}
        for at in range(0, 300, 2)
        for request in ("POST /v1/workflows/run HTTP/1.1", "POST /v1/workflows/jobs HTTP/1.1")[: 1 + (at > 200)]
    ]
    _, _, directory = imported(tmp_path, "".join(json.dumps(line) + "\n" for line in lines))
    assert run("init", "--from-run", str(directory), str(tmp_path / "project")).exception is None
    made = load_scenario(tmp_path / "project" / "scenarios" / "from-run.toml").scenario
    offered = {
        name: [stage.rate.value * stage.duration for stage in each.stages if stage.rate]
        for name, each in made.traffic.items()
    }
    assert {name: round(sum(each)) for name, each in offered.items()} == {"sync_run": 150, "async_run": 49}
    assert [round(each) for each in offered["async_run"]][:2] == [0, 0]
    again = run("init", "--from-run", str(directory), str(tmp_path / "project"))
    assert "not overwritten" in str(again.exception)
