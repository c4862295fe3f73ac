"""Whole runs over TLS: an entry's files and headers reach preflight and load, and its mistakes are named before."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugins import warm
from plugins.leash_parts import write_entry, write_scenario
from plugins.processes import PATIENCE, clean_environment
from plugins.records import read_table

from loadtest.errors import InputError
from loadtest.prepare import prepare_run
from loadtest.record import run_directory
from loadtest.record.run_info import TlsInfo
from loadtest.scenario import load_scenario
from loadtest.targets import choose

TOKEN = "Bearer s3cret"
HEADERS = 'headers = { X-Tenant = "blue", authorization = "$API_TOKEN" }'


def entry(folder: Path, nginx: Any, *, ca: str = "ca", client: str = "client", more: str = HEADERS) -> None:
    """An entry for the server that wants a client certificate and two headers; its files lie beside it."""
    for name in (f"{ca}.pem", f"{client}.pem", f"{client}.key"):
        (folder / name).write_bytes((nginx.folder / name).read_bytes())
    lines = [f'ca = "{ca}.pem"', f'client_certificate = "{client}.pem"', f'client_key = "{client}.key"', more]
    write_entry(folder, f"https://localhost:{nginx.mutual}", "\n".join(["max_share = 1", *lines]))


def test_a_run_over_tls_with_a_client_certificate_and_headers(nginx: Any, tmp_path: Path) -> None:
    """Every request is let in; run.json says whom it connected to, and no file of the run holds the secret header."""
    entry(tmp_path, nginx)
    write_scenario(tmp_path, operation="sync_run", rate="5/s", seconds=1)
    directory, _ = prepare_run(
        load_scenario(tmp_path / "s.toml"),
        url=f"https://localhost:{nginx.mutual}",
        keys=1,
        command=["loadtest"],
        output_dir=tmp_path / "reports",
        chosen=choose(None, "here", tmp_path / "targets.toml"),
    )
    with (directory / "load.log").open("wb") as log:
        command = [sys.executable, "-m", "loadtest.load", str(directory), str(tmp_path)]
        environment = clean_environment(API_TOKEN=TOKEN)
        with warm.start(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log) as process:
            process.wait(PATIENCE)
    assert process.returncode == 0, (directory / "load.log").read_text()
    info = run_directory.load(directory)
    outcomes = [row["outcome"] for row in read_table(directory).to_pylist() if row["row"] == "operation"]
    assert (info.end, outcomes) == ("finished", ["ok"] * 5)
    assert list(info.peers) == ["127.0.0.1"]
    assert info.peers["127.0.0.1"].connections > 0
    assert info.target.headers == {"x-tenant": "blue", "authorization": "$API_TOKEN"}
    assert info.target.tls == TlsInfo(
        ca=f"{tmp_path}/ca.pem", certificate=f"{tmp_path}/client.pem", key=f"{tmp_path}/client.key"
    )
    for path in directory.iterdir():
        assert b"s3cret" not in path.read_bytes()


@pytest.mark.parametrize(
    ("said", "token", "says"),
    [
        ({}, TOKEN, "workflow   ok"),
        ({"ca": "client"}, TOKEN, "Check ca and client_certificate in the target's entry, and the host's name"),
        ({"more": ""}, TOKEN, "an unknown job id was answered with 500 instead of 404"),
        ({}, "", "the header authorization is taken from API_TOKEN, which is not set"),
    ],
    ids=["all well", "not trusted", "no header", "no variable"],
)
def test_a_preflight_asks_as_the_load_does(loadtest, nginx, tmp_path, *, said, token, says):
    """With the same certificates and headers."""
    entry(tmp_path, nginx, **said)
    write_scenario(tmp_path, operation="sync_run")
    done = loadtest("preflight", "s.toml", "--target", "here", API_TOKEN=token)
    assert says in done.out + done.err


def lock(folder: Path) -> None:
    """Put a password on the client's key."""
    command = ["openssl", "pkey", "-in", "client.key", "-aes256", "-passout", "pass:x", "-out", "locked.key"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "locked.key").replace(folder / "client.key")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "ca.pem").unlink(), "here: ca: {folder}/ca.pem holds no certificates (No such file"),
        (lambda folder: (folder / "ca.pem").write_text("none"), "here: ca: {folder}/ca.pem holds no certificates ("),
        (
            lambda folder: (folder / "client.key").write_text("none"),
            "here: client_certificate: no certificate with its key in {folder}/client.pem and {folder}/client.key",
        ),
        (lock, "here: client_key: the key is encrypted with a password"),
    ],
    ids=["no file", "no certificates", "no key", "locked"],
)
def test_a_file_that_cannot_be_used_is_named(nginx: Any, tmp_path: Path, spoil: Any, says: str) -> None:
    """File, entry, key and reason, before anything is connected to; nobody is asked for a password."""
    entry(tmp_path, nginx)
    spoil(tmp_path)
    with pytest.raises(InputError) as refused:
        choose(None, "here", tmp_path / "targets.toml")
    assert "targets.toml: " + says.format(folder=tmp_path) in str(refused.value)
