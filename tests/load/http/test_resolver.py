"""The addresses of a target: taken in turn, looked up again, never followed to where they may not lead."""

import socket
from collections.abc import Sequence

import pytest

from loadtest.errors import InputError
from loadtest.load.connection import FRESH, Address, Resolver, make_resolver
from loadtest.load.exchange import HttpConnection, Timeouts
from loadtest.targets import UnresolvedError, allow


class Directory:
    """A name service whose answers, and a clock whose time, a test sets."""

    def __init__(self, *addresses: str) -> None:
        self.now = 0.0
        self.asked = 0
        self.answer: Sequence[str] | InputError = addresses
        self.names = Resolver(addresses, self.look_up, lambda: self.now)

    def look_up(self) -> Sequence[str]:
        self.asked += 1
        if isinstance(self.answer, InputError):
            raise self.answer
        return self.answer


def test_addresses_of_the_preferred_family_take_turns() -> None:
    """Connections spread over them; those of the other family are for where none of these can be reached."""
    names = Resolver(("10.0.0.1", "::1", "10.0.0.2"))
    assert [names.order() for _ in range(3)] == [
        ["10.0.0.1", "10.0.0.2", "::1"],
        ["10.0.0.2", "10.0.0.1", "::1"],
        ["10.0.0.1", "10.0.0.2", "::1"],
    ]


def test_a_name_is_looked_up_again_after_a_minute_and_not_before() -> None:
    """However many connect meanwhile."""
    service = Directory("10.0.0.1")
    service.answer = ("10.0.0.7",)
    for service.now in (1.0, FRESH - 0.1):
        assert service.names.order() == ["10.0.0.1"]
    assert service.asked == 0
    for service.now in (FRESH, FRESH + 1, 2 * FRESH - 0.1):
        assert service.names.order() == ["10.0.0.7"]
    assert service.asked == 1


@pytest.mark.parametrize(
    ("trouble", "known"), [(UnresolvedError("no answer"), ["10.0.0.1"]), (InputError("not loopback"), [])]
)
def test_what_a_look_up_fails_with_decides(trouble: InputError, known: list[str]) -> None:
    """Without an answer, what was known holds on; an address that may not be loaded ends it, until there is another."""
    service = Directory("10.0.0.1")
    service.answer, service.now = trouble, FRESH
    assert service.names.order() == known
    service.answer, service.now = ("10.0.0.3",), 2 * FRESH
    assert service.names.order() == ["10.0.0.3"]


def test_nothing_is_sent_to_a_name_that_leads_elsewhere() -> None:
    """It is an outcome with its word."""
    service = Directory("127.0.0.1")
    service.answer, service.now = InputError("not loopback"), FRESH
    connection = HttpConnection(Address("127.0.0.1", 9, resolver=service.names))
    exchange = connection.exchange(b"GET / HTTP/1.1\r\n\r\n", Timeouts(1.0))
    assert (exchange.failure, exchange.bytes_sent) == ("address_not_allowed", 0)
    assert service.names.peers == {}


@pytest.mark.parametrize(("listed", "order"), [(False, []), (True, ["192.0.2.7", "192.0.2.8"])])
def test_a_targets_name_is_checked_again_as_at_first(monkeypatch, listed, order):
    """A name that was loopback's leads elsewhere: followed only where an entry allows other hosts."""
    names = make_resolver(allow("http://localhost:9"), listed=listed)
    assert names.order()[0] == "127.0.0.1"
    numeric = make_resolver(allow("http://127.0.0.1:9"), listed=listed)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", 9)) for n in (7, 8)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    for each in (names, numeric):
        each._looked -= FRESH
    assert sorted(names.order()) == order
    assert numeric.order() == ["127.0.0.1"]
