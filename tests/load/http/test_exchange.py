"""The wire against peers that do anything but answer well: each gives its reason, none an exception."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from plugins.processes import PATIENCE

from loadtest.load import exchange as wires
from loadtest.load.connection import Address
from loadtest.load.exchange import HttpConnection, HttpExchange, Timeouts

REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
Peers = Callable[..., Any]


def answering(*parts: bytes, then: str = "wait") -> Callable[[Any], None]:
    """A script: read a request, send these bytes, then wait, close or reset."""

    def script(talk: Any) -> None:
        talk.read()
        talk.send(*parts)
        if then == "reset":
            talk.reset()
        elif then == "wait":
            talk.wait()

    return script


def keep_answering(answer: bytes) -> Callable[[Any], None]:
    """A script: answer every request on the connection."""

    def script(talk: Any) -> None:
        while talk.read():
            talk.send(answer)

    return script


def endless(head: bytes, unit: bytes, pause: float = 0.0) -> Callable[[Any], None]:
    """A script: an answer that never ends."""

    def script(talk: Any) -> None:
        talk.read()
        talk.send(head)
        while True:
            talk.send(unit)
            talk.pause(pause)

    return script


def check_phases(exchange: HttpExchange) -> None:
    """Times are in order: start, first byte, end."""
    assert exchange.start <= exchange.end
    if exchange.first_byte is not None:
        assert exchange.start <= exchange.first_byte <= exchange.end
    assert exchange.end - exchange.start < 20e9


def exchange_with(port: int, timeout: float = 10.0) -> HttpExchange:
    """One exchange over a wire of its own."""
    wire = HttpConnection(Address("127.0.0.1", port))
    try:
        exchange = wire.exchange(REQUEST, Timeouts(timeout))
    finally:
        wire.close()
    check_phases(exchange)
    return exchange


BROKEN: dict[str, tuple[Callable[[Any], None], str, int | None]] = {
    "reset before the answer": (answering(then="reset"), "connection_reset", None),
    "closed before the answer": (answering(then="close"), "connection_closed", None),
    "closed within the head": (answering(b"HTTP/1.1 200 OK\r\ncont", then="close"), "truncated", None),
    "closed within the body": (answering(OK[:-1], then="close"), "truncated", 200),
    "reset within the body": (answering(OK[:-1], b"", then="reset"), "connection_reset", 200),
    "closed within a chunk": (
        answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", then="close"),
        "truncated",
        200,
    ),
    "not HTTP": (answering(b"SSH-2.0-OpenSSH_9.9\r\n"), "malformed_http", None),
    "a bad chunk": (
        answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        "malformed_http",
        200,
    ),
    "two lengths": (
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        "malformed_http",
        None,
    ),
    "a length that is none": (answering(b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}"), "malformed_http", None),
    "a length and chunks": (
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}"),
        "malformed_http",
        None,
    ),
    "a length beyond what is sent": (
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n{}", then="close"),
        "truncated",
        200,
    ),
    "a line in the head that is none": (answering(b"HTTP/1.1 200 OK\r\n\x00: 1\r\n\r\n"), "malformed_http", None),
    "an endless line of the head": (endless(b"HTTP/1.1 200 OK\r\nx: ", b"x" * 65536), "head_too_large", None),
    "endless chunks of a byte": (
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 8192),
        "answer_too_large",
        200,
    ),
    "endless trailers": (
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 8192),
        "answer_too_large",
        200,
    ),
    "an upgrade without a request for it": (
        answering(b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n\x81\x00"),
        "malformed_http",
        None,
    ),
    "an endless body": (
        endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        "answer_too_large",
        200,
    ),
    "an endless head": (
        endless(b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"x" * 65536 + b"\r\n"),
        "head_too_large",
        None,
    ),
    "endless interim answers": (endless(b"", b"HTTP/1.1 103 Early\r\n\r\n" * 4096), "head_too_large", None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_has_its_reason(peer: Peers, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of answering badly is a failure with a word of its own, known status and ordered times."""
    monkeypatch.setattr(wires, "MAX_ANSWER", 1 << 20)
    script, failure, status = BROKEN[name]
    exchange = exchange_with(peer(script).port)
    assert (exchange.failure, exchange.status, exchange.timed_out) == (failure, status, False)
    assert not exchange.reused
    assert exchange.connect_ms is not None


def test_the_kept_size_of_an_answer_is_bounded() -> None:
    """An answer may have 16 MiB: no service's answer is larger, and no hostile one fills the memory."""
    assert wires.MAX_ANSWER == 16 * 2**20


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (answering(then="wait"), None),
        (answering(b"HTTP/1.1 200 OK\r\ncontent-le"), None),
        (answering(OK[:-1]), 200),
        (answering(b"HTTP/1.1 100 Continue\r\n\r\n"), None),
        (endless(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b"x", 0.02), 200),
    ],
    ids=["no answer", "half a head", "half a body", "only an interim answer", "a slow drip"],
)
def test_the_whole_exchange_has_one_deadline(peer: Peers, script: Callable[[Any], None], status: int | None) -> None:
    """However the time passes, the exchange ends as a time-out, not before it and not much later."""
    exchange = exchange_with(peer(script).port, timeout=0.2)
    assert (exchange.failure, exchange.status, exchange.timed_out) == ("timeout", status, True)
    assert exchange.end - exchange.start >= 0.2e9


@pytest.mark.parametrize(
    ("timeouts", "failure"), [(Timeouts(10.0, read=0.6), "read_timeout"), (Timeouts(0.8, read=0.6), "timeout")]
)
def test_silence_has_a_bound_of_its_own(peer: Peers, timeouts: Timeouts, failure: str) -> None:
    """A silence within the answer ends it as a read_timeout, unless the whole exchange's deadline comes first."""

    def script(talk: Any) -> None:
        talk.read()
        talk.pause(0.3)
        talk.send(OK[:-1])
        talk.wait()

    wire = HttpConnection(Address("127.0.0.1", peer(script).port))
    exchange = wire.exchange(REQUEST, timeouts)
    wire.close()
    check_phases(exchange)
    assert (exchange.failure, exchange.status, exchange.timed_out) == (failure, 200, True)


def test_connecting_is_refused() -> None:
    """A closed port refuses the connection; the exchange has a start, an end, and no bytes sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    exchange = exchange_with(port)
    assert (exchange.failure, exchange.bytes_sent, exchange.connect_ms) == ("connection_refused", 0, None)


def test_connecting_times_out() -> None:
    """A full backlog accepts no connection: a time-out of connecting."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        try:
            exchange = exchange_with(address[1], timeout=0.3)
        finally:
            for filler in fillers:
                filler.close()
    assert (exchange.failure, exchange.timed_out) == ("connect_timeout", True)


WHOLE: dict[str, tuple[tuple[bytes, ...], int, bytes, bool]] = {
    "with a length": ((OK,), 200, b"{}", True),
    "byte by byte": (tuple(bytes([byte]) for byte in OK), 200, b"{}", True),
    "chunked": (
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n"),
        200,
        b"{}",
        True,
    ),
    "chunked with a trailer": (
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-sum: 1\r\n\r\n",),
        200,
        b"{}",
        True,
    ),
    "Connection: close": ((b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",), 200, b"{}", False),
    "HTTP/1.0": ((b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",), 200, b"{}", False),
    "204": ((b"HTTP/1.1 204 No Content\r\n\r\n",), 204, b"", True),
    "304 with the length of what it does not send": (
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n",),
        304,
        b"",
        True,
    ),
    "a redirect": ((b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",), 302, b"", True),
    "after an interim answer": ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), 200, b"{}", True),
    "in one packet with an interim answer": ((b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + OK,), 200, b"{}", True),
    "cut right behind an interim answer": ((b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 2", OK[10:]), 200, b"{}", True),
    "its body after an interim answer and its head": (
        (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"{}"),
        200,
        b"{}",
        True,
    ),
    "two at once": ((OK + b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nbad",), 200, b"{}", False),
    "rubbish behind it": ((OK + b"rubbish",), 200, b"{}", False),
    "a body that a 204 must not have": ((b"HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\n{}",), 204, b"", False),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_is_read(peer: Peers, name: str) -> None:
    """Each framing gives status and body; the next request reuses the connection exactly if it may."""
    parts, status, body, kept = WHOLE[name]

    def script(talk: Any) -> None:
        while talk.read():
            talk.send(*parts)

    server = peer(script)
    wire = HttpConnection(Address("127.0.0.1", server.port))
    for turn in range(2):
        exchange = wire.exchange(REQUEST, Timeouts(10.0))
        assert (exchange.failure, exchange.status, exchange.body) == (None, status, body)
        assert exchange.reused == (kept and turn == 1)
        assert exchange.first_byte is not None
        assert exchange.bytes_received >= len(body)
        check_phases(exchange)
    wire.close()
    assert server.connections == (1 if kept else 2)


def test_an_answer_without_length_ends_with_the_stream(peer: Peers) -> None:
    """Neither length nor chunks: what came until the peer closed is the body (RFC 9112, 6.3)."""
    server = peer(answering(b"HTTP/1.1 200 OK\r\n\r\n", b"abc", b"def", then="close"))
    assert exchange_with(server.port).body == b"abcdef"


def test_a_failed_exchange_leaves_no_connection_behind(peer: Peers) -> None:
    """After a time-out, the late answer is not read as that of the next request."""
    timed_out = threading.Event()

    def late(talk: Any) -> None:
        talk.read()
        timed_out.wait(30)
        talk.send(b"HTTP/1.1 500 Late\r\ncontent-length: 0\r\n\r\n")
        talk.wait()

    server = peer(late, keep_answering(OK))
    wire = HttpConnection(Address("127.0.0.1", server.port))
    assert wire.exchange(REQUEST, Timeouts(0.1)).failure == "timeout"
    timed_out.set()
    second = wire.exchange(REQUEST, Timeouts(10.0))
    wire.close()
    assert (second.status, second.reused) == (200, False)


def test_a_hang_up_on_a_used_connection_is_told_from_a_reset(peer: Peers) -> None:
    """Only the end of a connection that had been used before is taken for a server that closes what is idle."""
    for then, failure, hung_up in (("close", "connection_closed", True), ("reset", "connection_reset", False)):

        def script(talk: Any, then: str = then) -> None:
            talk.read()
            talk.send(OK)
            talk.read()
            if then == "reset":
                talk.reset()

        wire = HttpConnection(Address("127.0.0.1", peer(script).port))
        assert wire.exchange(REQUEST, Timeouts(10.0)).failure is None
        second = wire.exchange(REQUEST, Timeouts(10.0))
        wire.close()
        assert (second.failure, second.hung_up, second.reused) == (failure, hung_up, True)
    assert not exchange_with(peer(answering(then="close")).port).hung_up


def test_headers_of_limits_are_kept(peer: Peers) -> None:
    """Date, Retry-After and every spelling of RateLimit headers are recorded, in bounded length."""
    head = (
        b"HTTP/1.1 429 Too Many\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nRetry-After: 7\r\n"
        b"X-RateLimit-Remaining: 0\r\nRateLimit: r=0;t=30\r\nX-Rate-Limit-Reset: " + b"9" * 5000 + b"\r\n"
        b"content-length: 0\r\n\r\n"
    )
    exchange = exchange_with(peer(answering(head)).port)
    assert exchange.date == b"Mon, 01 Jan 2024 00:00:00 GMT"
    assert exchange.retry_after == "7"
    assert exchange.rate_limit is not None
    lines = exchange.rate_limit.splitlines()
    assert lines[:2] == ["x-ratelimit-remaining: 0", "ratelimit: r=0;t=30"]
    assert len(lines[2]) == 500


def test_a_large_request_is_sent_whole(peer: Peers) -> None:
    """A request that does not fit into the kernel's buffers arrives complete."""
    server = peer(keep_answering(OK))
    body = bytes(8 * 2**20)
    wire = HttpConnection(Address("127.0.0.1", server.port))
    exchange = wire.exchange(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body, Timeouts(PATIENCE))
    wire.close()
    assert exchange.failure is None
    assert server.requests[0].endswith(body)
    assert exchange.bytes_sent == len(server.requests[0])
