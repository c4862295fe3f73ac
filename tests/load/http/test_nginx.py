"""The wire against a real nginx: framings, compressed bodies, connections that it closes, TLS, IPv6."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins.processes import until

from loadtest.load.connection import Address, Resolver
from loadtest.load.exchange import HttpConnection, HttpExchange, Timeouts
from loadtest.record.run_info import PeerInfo, TlsInfo
from loadtest.targets.connection import tls_context

LONG = Timeouts(20.0)


def get(path: str, *headers: str) -> bytes:
    """A GET."""
    more = "".join(f"{header}\r\n" for header in headers)
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n".encode()


def post(path: str, body: bytes = b"{}") -> bytes:
    """A POST."""
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def wire(nginx: Any) -> Iterator[HttpConnection]:
    """A wire to the plain server."""
    made = HttpConnection(Address("127.0.0.1", nginx.plain, codings=frozenset({"gzip"})))
    yield made
    made.close()


def ok(wire: HttpConnection, request: bytes) -> HttpExchange:
    """An exchange that has to succeed."""
    exchange = wire.exchange(request, LONG)
    assert (exchange.failure, exchange.status) == (None, 200)
    return exchange


def test_one_connection_serves_many_requests(wire: HttpConnection) -> None:
    """Kept alive: only the first one connects."""
    reused = [ok(wire, request).reused for request in (get("/ok"), post("/ok"), get("/ok"))]
    assert reused == [False, True, True]


@pytest.mark.parametrize(("path", "headers"), [("/chunked", ()), ("/gzip", ("accept-encoding: gzip",))])
def test_chunked_and_compressed_bodies_are_whole(nginx, wire, path, headers):
    """Decoded in full, over a connection that goes on being used; compressed ones come as fewer bytes."""
    for turn in range(2):
        exchange = ok(wire, get(path, *headers))
        assert (exchange.body.decode(), exchange.reused) == (nginx.text, turn > 0)
        assert (exchange.bytes_received < len(nginx.text)) == (path == "/gzip")


def test_a_connection_that_the_answer_ends_is_not_used_again(wire: HttpConnection) -> None:
    """``Connection: close``, and a server that has answered enough on one connection: the next request connects."""
    assert [ok(wire, get("/close")).reused for _ in range(2)] == [False, False]
    assert [ok(wire, post("/few")).reused for _ in range(7)] == [False, True, True, False, True, True, False]


def test_a_post_after_an_idle_close_is_sent_once(nginx: Any, wire: HttpConnection) -> None:
    """nginx closes what is idle: that is seen before the next request is sent, and fails nothing."""
    before = nginx.hits("/idle")
    for _ in range(3):
        assert not ok(wire, post("/idle")).reused
        stream = wire._stream
        until(lambda stream=stream: not stream.alive())
    until(lambda: nginx.hits("/idle") == before + 3)


def test_a_time_out_that_the_server_names_is_kept(wire: HttpConnection) -> None:
    """``Keep-Alive: timeout=1``: after half of it the connection is given up, before the server does."""
    ok(wire, get("/told"))
    assert wire._parser.idle_s == 1
    assert wire._idle_until > 0


def test_a_refusal_in_the_middle_of_a_large_request_is_read(wire: HttpConnection) -> None:
    """413 comes while the body is still being sent, and is an answer, not a broken connection."""
    exchange = wire.exchange(post("/small", bytes(64 * 2**20)), LONG)
    assert (exchange.failure, exchange.status) == (None, 413)
    assert not ok(wire, get("/ok")).reused


def test_ipv6_is_spoken(nginx: Any) -> None:
    """An IPv6 address alone, and one that follows where the preferred one refuses."""
    if not nginx.six:
        pytest.skip("this machine has no IPv6 loopback")
    six = HttpConnection(Address("::1", nginx.plain))
    ok(six, get("/ok"))
    six.close()
    names = Resolver(("::1", "127.0.0.1"))
    four = HttpConnection(
        Address(
            "::1",
            nginx.tls,
            tls=tls_context(TlsInfo(ca=f"{nginx.folder}/ca.pem")),
            server_name="localhost",
            resolver=names,
        )
    )
    ok(four, get("/"))
    four.close()
    assert names.peers == {"::1": PeerInfo(failed=1), "127.0.0.1": PeerInfo(connections=1)}


def over_tls(nginx: Any, port: int, tls: ssl.SSLContext, name: str = "localhost") -> HttpExchange:
    """Two exchanges over TLS; gives the second, which needs no new connection if the first one held."""
    wire = HttpConnection(Address("127.0.0.1", port, tls=tls, server_name=name))
    first = wire.exchange(get("/"), LONG)
    second = wire.exchange(get("/"), LONG) if first.failure is None else first
    wire.close()
    assert second.reused == (first.failure is None)
    return second


def context(nginx: Any, ca: str = "ca", client: str | None = None) -> ssl.SSLContext:
    """A context that trusts one authority."""
    folder: Path = nginx.folder
    certificate, key = (None, None) if client is None else (f"{folder}/{client}.pem", f"{folder}/{client}.key")
    return tls_context(TlsInfo(ca=f"{folder}/{ca}.pem", certificate=certificate, key=key))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_with_an_authority_of_ones_own(nginx: Any, version: ssl.TLSVersion) -> None:
    """Verified, with the server's name told (SNI), and kept alive: tickets do not spoil a connection."""
    tls = context(nginx)
    tls.maximum_version = version
    exchange = over_tls(nginx, nginx.tls, tls)
    said = json.loads(exchange.body)
    assert said == {"tls": version.name.replace("_", "."), "name": "localhost"}


@pytest.mark.parametrize(
    ("server", "ca", "failure"),
    [
        ("wrong", "ca", "certificate_wrong_name"),
        ("tls", "stranger", "certificate_untrusted"),
        ("plain", "ca", "tls_failed"),
    ],
)
def test_a_server_that_proves_nothing_gets_no_request(nginx: Any, server: str, ca: str, failure: str) -> None:
    """Another name, another authority, no TLS at all: an outcome with its word, and not a byte of the request sent."""
    exchange = over_tls(nginx, getattr(nginx, server), context(nginx, ca))
    assert (exchange.failure, exchange.bytes_sent, exchange.status) == (failure, 0, None)


@pytest.mark.parametrize(("client", "status"), [(None, 400), ("stranger", 400), ("client", 500)])
def test_a_client_certificate_is_shown_where_it_is_wanted(nginx: Any, client: str | None, status: int) -> None:
    """nginx refuses none and a stranger's with 400; ours is let in (to be told that a header is missing)."""
    wire = HttpConnection(
        Address("127.0.0.1", nginx.mutual, tls=context(nginx, client=client), server_name="localhost")
    )
    exchange = wire.exchange(get("/"), LONG)
    wire.close()
    assert (exchange.failure, exchange.status) == (None, status)


def test_a_server_that_ends_the_handshake_for_want_of_a_certificate(nginx: Any, peer: Callable[..., Any]) -> None:
    """OpenSSL's own way: the alert comes after a TLS 1.3 client thinks that it is connected, and has a word, too."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(nginx.folder / "localhost.pem", nginx.folder / "localhost.key")
    server.load_verify_locations(nginx.folder / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED

    def script(talk: Any) -> None:
        with server.wrap_socket(talk.connection, server_side=True) as secured:
            secured.recv(1)

    wire = HttpConnection(Address("127.0.0.1", peer(script).port, tls=context(nginx), server_name="localhost"))
    # Whether the request is still sent is a race, which decides nothing.
    failures = {wire.exchange(get("/"), LONG).failure for _ in range(10)}
    assert failures == {"client_certificate_refused"}


def test_a_handshake_has_a_deadline(nginx: Any) -> None:
    """A server that accepts and says nothing: a time-out of connecting."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        wire = HttpConnection(Address("127.0.0.1", mute.getsockname()[1], tls=context(nginx), server_name="localhost"))
        exchange = wire.exchange(get("/"), Timeouts(10.0, connect=0.2))
        wire.close()
    assert (exchange.failure, exchange.timed_out, exchange.bytes_sent) == ("connect_timeout", True, 0)
