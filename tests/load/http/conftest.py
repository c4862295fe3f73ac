"""A real nginx, and certificates for it: one of each for all tests of a file."""

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugins.nginx import need, running
from plugins.processes import free_ports

LARGE = '{"text": "' + "many words " * 3000 + '"}'
CONFIG = """
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/bodies;
    default_type application/json;
    ssi_types application/json;
    gzip_types application/json;
    gzip_min_length 1;
    root {folder}/files;
    ssl_certificate {folder}/localhost.pem;
    ssl_certificate_key {folder}/localhost.key;
    server {{
        listen 127.0.0.1:{plain};
        {six}
        location /ok {{ return 200 '{{"said": "$request_method"}}'; }}
        location /chunked {{ ssi on; try_files /large.json =404; }}
        location /gzip {{ gzip on; try_files /large.json =404; }}
        location /close {{ keepalive_timeout 0; return 200 '{{}}'; }}
        location /few {{ keepalive_requests 3; return 200 '{{}}'; }}
        location /idle {{ keepalive_timeout 50ms; return 200 '{{}}'; }}
        location /told {{ keepalive_timeout 50ms 1s; return 200 '{{}}'; }}
        location /small {{ client_max_body_size 1k; proxy_pass http://127.0.0.1:{plain}/ok; }}
    }}
    server {{
        listen 127.0.0.1:{tls} ssl;
        location / {{ return 200 '{{"tls": "$ssl_protocol", "name": "$ssl_server_name"}}'; }}
    }}
    server {{
        listen 127.0.0.1:{wrong} ssl;
        ssl_certificate {folder}/elsewhere.pem;
        ssl_certificate_key {folder}/elsewhere.key;
        location / {{ return 200 '{{}}'; }}
    }}
    server {{
        listen 127.0.0.1:{mutual} ssl;
        ssl_client_certificate {folder}/ca.pem;
        ssl_verify_client on;
        if ($http_x_tenant != "blue") {{ return 500; }}
        if ($http_authorization != "Bearer s3cret") {{ return 401; }}
        location /v1/workflows/run {{ return 200 '{{"result": {{}}, "executionTime": 0}}'; }}
        location /v1/workflows/jobs/ {{ return 404 '{{"error": "no", "code": "unknown_job", "details": {{}}}}'; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """Where it listens, and its files."""

    folder: Path
    plain: int
    tls: int
    wrong: int
    mutual: int
    six: bool
    text: str = LARGE
    """Of the file that is sent in chunks, or compressed."""

    def hits(self, path: str) -> int:
        """How often a path was asked for, as it logs it."""
        return (self.folder / "access.log").read_text().count(f" {path} HTTP/1.1")


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


# What RFC 5280 asks of an authority, and of what it signs; Python 3.13 and later insist on it.
AUTHORITY = ["subjectKeyIdentifier=hash", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
SIGNED = ["authorityKeyIdentifier=keyid", "basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature"]


def make_certificate(folder: Path, name: str, *more: str, ca: str | None = "ca") -> None:
    """``name.pem`` and ``name.key``, signed by an authority, or an authority itself; ``more`` are extensions."""
    command = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
    if ca is not None:
        command += ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key"]
    # A configuration of its own: the system's adds extensions, too, which would then be there twice.
    config = folder / "request.cnf"
    extensions = [*(AUTHORITY if ca is None else SIGNED), *more]
    config.write_text(
        "[req]\ndistinguished_name = name\nx509_extensions = own\n[name]\n[own]\n" + "\n".join(extensions)
    )
    openssl(*command, "-config", str(config), cwd=folder)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (``ca``), another one (``stranger``), servers' certificates and a client's."""
    need("nginx", "openssl")
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("ca", "stranger"):
        make_certificate(folder, authority, ca=None)
    for server in ("localhost", "elsewhere"):
        make_certificate(folder, server, f"subjectAltName=DNS:{server}")
    make_certificate(folder, "client")
    return folder


def has_six() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def nginx(certificates: Path) -> Iterator[Nginx]:
    """One that answers over everything that the tests of a file ask for."""
    plain, tls, wrong, mutual = free_ports(4)
    server = Nginx(certificates, plain, tls, wrong, mutual, has_six())
    (server.folder / "files").mkdir()
    (server.folder / "files" / "large.json").write_text(LARGE)
    six = f"listen [::1]:{plain};" if server.six else ""
    http = CONFIG.format(folder=server.folder, plain=plain, tls=tls, wrong=wrong, mutual=mutual, six=six)
    with running(server.folder, http, mutual):
        yield server
