"""Bodies: those that come compressed are decoded and bounded, and a request's may be refused before it is read."""

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.connection import Address
from loadtest.load.exchange import (
    MAX_ANSWER,
    BodyRoom,
    HttpConnection,
    HttpExchange,
    ResponseParser,
    Timeouts,
)

Peers = Callable[..., Any]


def answer_to(peer: Peers, answer: bytes) -> HttpExchange:
    """One exchange with a peer that answers so."""

    def script(talk: Any) -> None:
        talk.read()
        talk.send(answer)
        talk.wait()

    codings = frozenset({"gzip", "x-gzip", "deflate", "br"})
    wire = HttpConnection(Address("127.0.0.1", peer(script).port, codings=codings))
    exchange = wire.exchange(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n", Timeouts(10.0))
    wire.close()
    return exchange


def coded(coding: str, body: bytes) -> bytes:
    """An answer with a coded body."""
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (coding.encode(), len(body)) + body


def test_a_compressed_body_cannot_fill_the_memory(peer: Peers) -> None:
    """64 MiB of zeros in 64 kB: given up at the most that an answer may have."""
    exchange = answer_to(peer, coded("gzip", gzip.compress(bytes(64 * 2**20))))
    assert (exchange.failure, exchange.status) == ("answer_too_large", 200)
    assert len(exchange.body) <= MAX_ANSWER


def test_a_coding_that_was_not_asked_for_is_refused(peer: Peers) -> None:
    """Not a byte of it is inflated."""
    answer = coded("gzip", gzip.compress(b"{}"))
    wire = HttpConnection(Address("127.0.0.1", peer(lambda talk: (talk.read(), talk.send(answer), talk.wait())).port))
    exchange = wire.exchange(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n", Timeouts(10.0))
    wire.close()
    assert (exchange.failure, exchange.status, exchange.body) == ("unknown_encoding", 200, b"")


def parsed(parser: ResponseParser, *pieces: bytes) -> tuple[Any, ...]:
    """An answer as a parser sees it, and whether the connection may be used again."""
    parser.expect(exchange := HttpExchange(start=0))
    try:
        for piece in filter(None, pieces):
            parser.feed(piece)
    except httptools.HttpParserError:
        return exchange, False
    usable = parser.complete and parser.keep_alive and not parser.excess and exchange.failure is None
    return exchange, usable, parser.complete, parser.framed


ANSWERS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n%b",
    b"HTTP/1.1 429 No\r\ncontent-length: 2\r\nretry-after: 1\r\nratelimit: r=1\r\n\r\n%b",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n%b\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n%b",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n%b",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%b",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\n%b",
    b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n",
]


@given(st.lists(st.tuples(st.sampled_from(ANSWERS), st.sampled_from([b"{}", b"\r\n"]), st.integers(0, 90)), max_size=9))
def test_earlier_answers_on_the_connection_change_nothing(answers: list[tuple[bytes, bytes, int]]) -> None:
    """An answer after others, with the same head or another one, is what it is on a new connection."""
    parser = ResponseParser()
    for form, body, cut in answers:
        data = form.replace(b"%b", body)
        for pieces in ((data,), (data[:cut], data[cut:]), (data,)):
            got = parsed(parser, *pieces)
            assert got == parsed(ResponseParser(), *pieces)
            if not got[1]:
                parser = ResponseParser()


def test_all_bodies_that_are_read_have_a_bound_together() -> None:
    """The one that goes beyond it fails; room is there again when a body was dropped."""
    room = BodyRoom(1_000_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
    parsers = [ResponseParser(room=room) for _ in range(4)]
    for parser in parsers:
        parser.feed(head + b"x" * 300_000)
    assert [parser.answer.failure for parser in parsers] == [None, None, None, "answer_too_large"]
    for parser in parsers:
        parser.drop_body()
    assert room.taken == 0
    last = ResponseParser(room=room)
    last.feed(head + b"x" * 900_000)
    assert (last.answer.failure, len(last.body)) == (None, 900_000)


@pytest.mark.parametrize(
    ("coding", "body", "failure"),
    [
        ("gzip", gzip.compress(b"{}"), None),
        ("X-GZip", gzip.compress(b"{") + gzip.compress(b"}"), None),
        ("deflate", zlib.compress(b"{}"), None),
        ("deflate", zlib.compress(b"{}")[2:-4], None),
        ("identity", b"{}", None),
        ("gzip", gzip.compress(b"{}")[:-9], "undecodable_body"),
        ("gzip", b"{}", "undecodable_body"),
        ("br", b"{}", "unknown_encoding"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}")), "unknown_encoding"),
    ],
    # Of their own: gzip writes the time into what it makes, and workers of pytest want the same names.
    ids=["gzip", "two files", "deflate", "raw deflate", "identity", "cut off", "not gzip", "unknown", "twice"],
)
def test_bodies_are_decoded_or_have_their_word(peer: Peers, coding: str, body: bytes, failure: str | None) -> None:
    """gzip, and deflate with its wrapper or without; anything else, and what is damaged, is a failure of its own."""
    exchange = answer_to(peer, coded(coding, body))
    assert exchange.failure == failure
    if failure is None:
        assert exchange.body == b"{}"


def test_an_answer_to_half_a_request_is_read(peer: Peers) -> None:
    """A server that refuses a large request before it has read it, and hangs up, has answered."""

    def script(talk: Any) -> None:
        talk.connection.recv(1000)
        talk.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")

    body = bytes(16 * 2**20)
    wire = HttpConnection(Address("127.0.0.1", peer(script).port))
    exchange = wire.exchange(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body, Timeouts(10.0))
    wire.close()
    assert (exchange.failure, exchange.status) == (None, 413)
