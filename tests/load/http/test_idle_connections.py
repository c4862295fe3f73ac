"""Connections between two requests: whether one still lives is known before the next request goes over it."""

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from plugins.processes import until

from loadtest.load.connection import Address
from loadtest.load.exchange import HttpConnection, Timeouts

REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
Peers = Callable[..., Any]


def answer_all(talk: Any) -> None:
    """A script: answer every request on the connection."""
    while talk.read():
        talk.send(OK)


def test_an_idle_connection_that_was_closed_is_made_again(peer: Peers) -> None:
    """A server may close a connection between two requests: that fails nothing."""
    closed = []

    def once(talk: Any) -> None:
        talk.read()
        talk.send(OK)
        talk.connection.close()
        closed.append(True)

    server = peer(once)
    wire = HttpConnection(Address("127.0.0.1", server.port))
    for turn in range(1, 4):
        exchange = wire.exchange(REQUEST, Timeouts(10.0))
        assert (exchange.failure, exchange.status, exchange.reused) == (None, 200, False)
        until(lambda turn=turn: len(closed) == turn)
    wire.close()
    assert server.connections == 3


def test_an_answer_that_nobody_asked_for_is_not_read_as_the_next_one(peer: Peers) -> None:
    """Bytes on an idle connection spoil it: the next request goes over a new connection."""
    spoiled = []

    def script(talk: Any) -> None:
        talk.read()
        talk.send(OK)
        talk.send(b"", b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")
        spoiled.append(True)
        talk.wait()

    server = peer(script, answer_all)
    wire = HttpConnection(Address("127.0.0.1", server.port))
    first = wire.exchange(REQUEST, Timeouts(10.0))
    until(lambda: spoiled)
    second = wire.exchange(REQUEST, Timeouts(10.0))
    wire.close()
    assert (first.status, second.status, second.failure, second.reused) == (200, 200, None, False)


def test_a_connection_in_use_a_moment_ago_is_not_asked_whether_it_lives(
    peer: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop watches it: a system call is needed only before the loop's next turn, and after a second."""
    wire = HttpConnection(Address("127.0.0.1", peer(answer_all).port))
    wire.exchange(REQUEST, Timeouts(10.0))
    stream = wire._stream
    assert stream is not None
    asked: list[int] = []

    class Poll:
        def poll(self, _: int) -> list[int]:
            asked.append(1)
            return []

    monkeypatch.setattr(stream, "_poll", Poll())
    assert stream.alive()
    assert len(asked) == 1, "the loop has had no turn since"
    gevent.idle()
    assert stream.alive()
    assert len(asked) == 1
    stream.rest(time.monotonic_ns() - 2_000_000_000)
    gevent.idle()
    assert stream.alive()
    assert len(asked) == 2, "it was idle for long"
    wire.close()


def test_the_event_loop_sees_an_idle_connection_close(peer: Peers) -> None:
    """Without a system call of its own, the next request goes over a new connection."""

    def once(talk: Any) -> None:
        talk.read()
        talk.send(OK)

    wire = HttpConnection(Address("127.0.0.1", peer(once).port))
    assert not wire.exchange(REQUEST, Timeouts(10.0)).reused
    stream = wire._stream
    assert stream is not None
    with gevent.Timeout(30):
        while not stream._spoiled:
            gevent.idle()
    again = wire.exchange(REQUEST, Timeouts(10.0))
    assert (again.failure, again.reused) == (None, False)
    wire.close()
