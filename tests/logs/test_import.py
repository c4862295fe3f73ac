"""Logs become the record of an imported run, which keeps neither keys, addresses nor paths."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loadtest.cli import app
from loadtest.errors import InputError
from loadtest.logs.formats import masked
from loadtest.logs.importing import ImportOptions, import_logs
from loadtest.record import run_directory
from loadtest.record.run_info import RunInfo
from loadtest.record.samples import read_table

COMBINED = (
    '192.0.2.7 - bob [10/Oct/2025:15:55:3{second} +0200] "POST /api/v1/workflows/run HTTP/1.1" {status} 120 "-" "py"\n'
)
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
    directory = import_logs([str(log)], folder / "reports", chosen, lambda _: None)
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
    """Half a line, another format and other paths are left out and counted."""
    lines = COMBINED.format(second=6, status=200)
    lines += lines.replace("/run", "/other") + "nonsense\n" + COMBINED.format(second=7, status=200)[:90]
    info, rows, _ = imported(tmp_path, lines)
    assert len(rows) == 1
    assert info.source is not None
    assert (info.source.lines, info.source.unknown_lines, info.source.other_lines) == (4, 2, 1)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("what a secret-123 log\n", "x x x-9 x"),
        (COMBINED.format(second=6, status=200).replace("/run", "/walk"), "--map"),
        ("\x1f\x8bnonsense", "gzip -t"),
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


def test_a_masked_line_keeps_its_form_only() -> None:
    """Letters and digits of an example line are replaced."""
    assert masked(b'10.0.0.7 "GET /jobs/a8f" key=\xc3\xa9\n') == '9.9.9.9 "x /x/x9x" x=x'


def run(*arguments: str) -> Result:
    """A verb's result."""
    return CliRunner().invoke(app, list(arguments), standalone_mode=False)


def test_import_ends_with_three_lines(tmp_path: Path) -> None:
    """Requests by operation, 429s and the limit; the page says what a log can't know; such a run is no baseline."""
    log = tmp_path / "access.log"
    log.write_text("".join(json.dumps(NGINX | {"status": status}) + "\n" for status in ("200", "200")))
    done = run("import", str(log), "--output-dir", str(tmp_path / "reports"), "--no-plots")
    assert done.return_value == 0
    assert "retrieval 2" in done.output.splitlines()[-3]
    directory = run_directory.find_run(str(tmp_path / "reports" / "latest"))
    metrics = json.loads((directory / "metrics.json").read_text())
    assert (metrics["verdict"], metrics["exit_code"], metrics["validity"]) == ("imported", 0, [])
    assert "highest 60 s: 2" in metrics["reasons"][-1]
    assert metrics["traffic"]["retrieval"]["response_time_ms"]["n"] == 2
    assert metrics["traffic"]["retrieval"]["start_lag_ms"]["n"] == 0
    assert "Unknown to a log" in (directory / "report.md").read_text()
    refused = run(
        "regression", "accept", str(directory), "--history", str(tmp_path), "--reason", "agreed with its users"
    )
    assert isinstance(refused.exception, InputError)
    assert "imported" in str(refused.exception)
