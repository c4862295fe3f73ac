"""Where a master listens, as people write it; and how many files a process may have open."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from plugins import record_maker as maker
from plugins.leash_parts import write_scenario
from plugins.processes import clean_environment, until
from plugins.stubs import pending_forever

from loadtest.cli import main
from loadtest.errors import ExitCode
from loadtest.processes import address_text, parse_address


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("master", ("master", 5557)),
        ("[::1]", ("::1", 5557)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_read_and_written(text: str, wanted: tuple[str, int]) -> None:
    """The default port stands in for none, and what was read is written so that it is read again."""
    assert parse_address(text, 5557) == wanted
    assert parse_address(address_text(*wanted)) == wanted


@pytest.mark.parametrize("text", ["", ":1", "host:", "host:0", "host:65536", "host:one", "::1:5557", "a:b:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text, 5557)


def test_a_port_may_be_demanded() -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address("host")


def limited(soft: int, hard: int, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Python in a process that may have so many files open."""
    program = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); "
    program += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )


def test_a_limit_of_open_files_is_raised_as_far_as_it_can_be(tmp_path: Path) -> None:
    """What the shell has set is mostly far below what the system allows."""
    done = limited(64, 500, "-c", "from loadtest.processes import allow_files; print(allow_files())", cwd=tmp_path)
    assert done.stdout == "500\n"


def test_a_run_that_may_not_have_its_files_open_does_not_begin(tmp_path: Path) -> None:
    """Users that cannot connect would look like a target that fails."""
    write_scenario(tmp_path, operation="sync_run", rate="50/s", seconds=1)
    done = limited(64, 64, "-m", "loadtest.cli", "run", "s.toml", cwd=tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert re.search(r"the limit of open files is 64, and \d+ users need \d+\n  Raise it", done.stderr)
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_a_machine_that_has_no_more_is_no_bug(monkeypatch, tmp_path, stub, capsys, number):
    """A full disk, or too many open files, wherever it shows: one sentence, exit code 2."""

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    write_scenario(tmp_path)
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    url = stub(pending_forever).url
    run = ["run", str(tmp_path / "s.toml"), "--host", url, "--no-preflight", "--output-dir", str(tmp_path / "r")]
    assert main(run) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert os.strerror(number) in said
    assert {errno.ENOSPC: "Free some space", errno.EMFILE: "ulimit -n"}[number] in said
    assert "Traceback" not in said


def test_ctrl_c_ends_a_report_without_a_traceback(tmp_path: Path) -> None:
    """Also while the report's process still imports; nothing of it is left."""
    plan = {"t": maker.plan("sync_run", [maker.stage("within", 0, 3, 0.5)], offered=1)}
    run = maker.save(tmp_path / "run", maker.info(plan), maker.both("t", 0, 0, 5))
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.cli", "report", str(run)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - background jobs ignore it
    )
    (report,) = until(psutil.Process(process.pid).children)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"Traceback" not in said
    assert not report.is_running() or report.status() == psutil.STATUS_ZOMBIE
