"""Errors that are answered otherwise than usual, because the documentation doesn't say how: ``--answer``."""

import socket
import subprocess
import sys
from typing import Any

import pytest

RUN, JOBS = "/v1/workflows/run", "/v1/workflows/jobs"


@pytest.fixture(scope="module")
def recoded(launch: Any) -> Any:
    """A server that answers these errors otherwise."""
    options = (
        "unknown_job=410",
        "workflow_failed=/execution_error",
        "malformed_http=422/bad_bytes",
        "missing_api_key=499",
    )
    return launch(*(part for option in options for part in ("--answer", option)))


def test_status_alone_code_alone_or_both_change(recoded: Any, expect_error: Any) -> None:
    """What is given changes, and what isn't stays: message, details, and other errors."""
    client = recoded.client()
    expect_error(client.get(JOBS + "/x"), 410, "unknown_job")
    failed = client.post(RUN, json={"name": "fail", "parameters": {"message": "no luck"}})
    assert expect_error(failed, 500, "execution_error")["workflow"] == "fail"
    expect_error(client.post(RUN, json={}), 400, "invalid_request")


def test_a_status_without_a_name_is_sent(recoded: Any, expect_error: Any) -> None:
    """Any status from 400 to 599 may be chosen, known to HTTP or not."""
    expect_error(recoded.client(key=None).get(JOBS + "/x"), 499, "missing_api_key")


def test_bytes_that_are_not_http_are_recoded_too(recoded: Any) -> None:
    """The answer that never becomes a request keeps to the same rule."""
    with socket.create_connection(recoded.address, timeout=20) as connection:
        connection.sendall(b"GARBAGE\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b'"code":"bad_bytes"' in answer


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("queue_ful=429", "Did you mean queue_full?"),
        ("zzz=429", "Write one of missing_api_key"),
        ("queue_full=200", "does not say how"),
        ("queue_full=", "does not say how"),
        ("queue_full", "does not say how"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_at_start(option: str, words: str) -> None:
    """The option is named, with the nearest code where there is one; exit code 2."""
    command = [sys.executable, "-m", "loadtest.cli", "serve", "--port", "0", "--answer", option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"--answer {option}: " in done.stderr
    assert words in done.stderr
