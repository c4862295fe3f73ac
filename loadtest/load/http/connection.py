"""TCP connections, with TLS or without: the server's addresses, connecting to one, and the reason where that fails.

``TcpStream`` is leaner than gevent's own sockets, which set up a timer and a watcher, and try to read what cannot be
there yet, for each wait: here the socket is watched for as long as it lives, and one timer serves many waits.

A server's addresses were checked before the run. They are taken in turn, looked up again from time to time, and
counted. A name that leads elsewhere later on is checked again, and not followed to an address that may not be loaded.
"""

import ipaddress
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import gevent
from gevent import get_hub, getcurrent, monkey

from loadtest.contract import Reason
from loadtest.errors import InputError
from loadtest.record.run_info import PeerInfo
from loadtest.targets import Target, UnresolvedError, allow

_READ: Final = 1
_WRITE: Final = 2
_RECEIVE: Final = 65_536
_NEVER: Final = 1 << 63
_FRESH_NS: Final = 1_000_000_000
"""Idle for longer, a connection may just be closed for that: servers keep theirs for seconds (Node.js 5, nginx 75)."""
_NOT_YET: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# X509_V_ERR_… of OpenSSL's x509_vfy.h
_CERTIFICATE_REASONS: Final = {
    9: Reason.CERTIFICATE_NOT_YET_VALID,
    10: Reason.CERTIFICATE_EXPIRED,
    62: Reason.CERTIFICATE_WRONG_NAME,
    64: Reason.CERTIFICATE_WRONG_NAME,
}
# The real ones, where gevent has put its own in their place: nothing here may block, and it waits for itself.
_poll = monkey.get_original("select", "poll")
_Socket = monkey.get_original("socket", "socket")


FRESH: Final = 60.0
"""Seconds for which a look-up holds."""
PATIENCE: Final = 1.0
"""Seconds that a new connection waits for a look-up; then the known addresses have to do."""


class Resolver:
    """Numeric addresses of one server.

    Args:
        addresses: those that were checked, the preferred one first.
        look_up: looks them up again, and gives those that may be loaded; None where there is no name to look up.
            Raises ``UnresolvedError`` where no answer comes, another ``InputError`` where none may be loaded.
        now: a clock, in seconds.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        look_up: Callable[[], Sequence[str]] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peers: dict[str, PeerInfo] = {}
        """How connecting went, by address."""
        self._addresses = tuple(addresses)
        self._look_up = look_up
        self._now = now
        self._looked = now()
        self._under_way: gevent.Greenlet | None = None
        self._turn = 0

    def order(self) -> list[str]:
        """The addresses to try for the next connection, in this order; none where none may be loaded any longer.

        Those of the preferred family take turns; the others follow. Others may run meanwhile.
        """
        if self._look_up is not None and (self._under_way is not None or self._now() - self._looked >= FRESH):
            self._refresh()
        known = self._addresses
        preferred = [each for each in known if (":" in each) == (":" in known[0])]
        if preferred:
            first = self._turn % len(preferred)
            preferred = preferred[first:] + preferred[:first]
        self._turn += 1
        return preferred + [each for each in known if each not in preferred]

    def connected(self, address: str) -> None:
        self._peer(address).connections += 1

    def failed(self, address: str) -> None:
        self._peer(address).failed += 1

    def _peer(self, address: str) -> PeerInfo:
        return self.peers.setdefault(address, PeerInfo())

    def _refresh(self) -> None:
        """Look up anew, once for all who wait."""
        if self._under_way is None:
            self._under_way = gevent.spawn(self._look)
        self._under_way.join(PATIENCE)

    def _look(self) -> None:
        try:
            if self._look_up is not None:
                self._addresses = tuple(self._look_up())
        except UnresolvedError:
            # Those that were checked still hold.
            pass
        except InputError:
            self._addresses = ()
        finally:
            self._looked = self._now()
            self._under_way = None


def make_resolver(target: Target, *, listed: bool) -> Resolver:
    """The resolver of a target; where it has a name, its addresses are looked up and checked again.

    It may lead to loopback only, unless an entry of ``targets.toml`` allows it (``listed``).
    """
    try:
        ipaddress.ip_address(target.server_name.partition("%")[0])
    except ValueError:
        return Resolver(target.addresses, lambda: allow(target.url, listed=listed).addresses)
    return Resolver(target.addresses)


class DeadlineError(Exception):
    """The deadline of a wait has passed."""


class TcpStream:
    """One TCP connection, on which one greenlet waits at a time.

    All deadlines are monotonic ns. A wait raises ``DeadlineError`` if it takes too long, sending and receiving
    ``OSError`` if they fail.
    """

    def __init__(self, family: int) -> None:
        self.socket: Any = _Socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._hub: Any = get_hub()
        self._readable = self._hub.loop.io(self.socket.fileno(), _READ)
        self._poll = _poll()
        self._poll.register(self.socket.fileno(), select.POLLIN)
        self._waiting: Any = None
        self._spoiled = False
        self._turn = 0
        self._used = 0
        self._deadline = 0
        self._alarm: Any = None
        self._alarm_at = _NEVER

    def connect(self, host: str, port: int, deadline: int) -> None:
        """Connect to a numeric address."""
        try:
            self.socket.connect((host, port))
        except BlockingIOError:
            self._wait_writable(deadline)
            if (error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                raise OSError(error, "") from None
        self._readable.start(self._on_readable)

    def secure(self, context: ssl.SSLContext, server_name: str, deadline: int) -> None:
        """Speak TLS from here on, with a server that proves its name; raises ``ssl.SSLError`` where that fails."""
        self.socket = context.wrap_socket(self.socket, server_hostname=server_name, do_handshake_on_connect=False)
        self.socket.setblocking(False)
        while True:
            try:
                self.socket.do_handshake()
            except ssl.SSLWantReadError:
                self.wait(deadline)
            except ssl.SSLWantWriteError:
                self._wait_writable(deadline)
            else:
                return

    def alive(self) -> bool:
        """Whether an idle connection is usable: one with something to read was closed, or got an unexpected answer.

        The event loop watches it. A system call tells what came since the loop's last turn; it is spared where the
        connection was in use a moment ago, and the loop has had a turn since then.
        """
        if self._spoiled:
            return False
        watched = self._hub.loop.iteration != self._turn and time.monotonic_ns() - self._used < _FRESH_NS
        return watched or not self._poll.poll(0)

    def rest(self, now: int) -> None:
        """Be idle from now on (monotonic ns)."""
        self._used = now
        self._turn = self._hub.loop.iteration

    def send(self, data: bytes, deadline: int) -> None:
        sent = self._send(data)
        while sent < len(data):
            self._wait_writable(deadline)
            sent += self._send(memoryview(data)[sent:])

    def receive(self, deadline: int) -> bytes:
        """Wait until there is something to read, and read it; nothing at the end of the stream."""
        while True:
            self.wait(deadline)
            try:
                data: bytes = self.socket.recv(_RECEIVE)
            except _NOT_YET:
                # TLS has not got a whole record, or something of its own.
                continue
            return data

    def wait(self, deadline: int) -> None:
        """Let others run until there is something to read."""
        if deadline < self._alarm_at:
            self._set_alarm(deadline)
        self._deadline = deadline
        self._waiting = getcurrent()
        try:
            self._hub.switch()
        finally:
            self._waiting = None

    def close(self) -> None:
        self._readable.stop()
        self._readable.close()
        self._stop_alarm()
        self.socket.close()

    def _send(self, data: "bytes | memoryview[int]") -> int:
        try:
            return int(self.socket.send(data))
        except _NOT_YET:
            return 0

    def _wait_writable(self, deadline: int) -> None:
        # An answer that comes early must not wake a greenlet that is still sending.
        watched = self._readable.active
        self._readable.stop()
        writable = self._hub.loop.io(self.socket.fileno(), _WRITE)
        writable.start(self._on_readable)
        try:
            self.wait(deadline)
        finally:
            writable.stop()
            writable.close()
            if watched:
                self._readable.start(self._on_readable)

    def _on_readable(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.switch()
        else:
            # Nobody asked: it may not be used again, and would be reported forever.
            self._spoiled = True
            self._readable.stop()

    def _set_alarm(self, deadline: int) -> None:
        self._stop_alarm()
        self._alarm = self._hub.loop.timer(max(0.0, (deadline - time.monotonic_ns()) / 1e9))
        self._alarm.start(self._on_alarm)
        self._alarm_at = deadline

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm.close()
            self._alarm, self._alarm_at = None, _NEVER

    def _on_alarm(self) -> None:
        # Set for the first of many waits, most of which ended well before it.
        self._stop_alarm()
        waiting = self._waiting
        if waiting is None:
            return
        if self._deadline > time.monotonic_ns():
            self._set_alarm(self._deadline)
        else:
            self._waiting = None
            waiting.throw(DeadlineError)


@dataclass(slots=True)
class Address:
    """Where to connect to.

    Attributes:
        host: a numeric address.
        port: of TCP.
        tls: the context that all connections share; None for plain HTTP.
        server_name: what the server's certificate has to prove.
        resolver: the server's addresses; by default ``host`` alone.
        codings: content codings that requests ask for (RFC 9110, section 12.5.3), in lower case.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    resolver: Resolver = field(default=None)  # type: ignore[assignment] # set below
    codings: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.resolver is None:
            self.resolver = Resolver((self.host,))


class ConnectError(Exception):
    """A connection could not be made."""

    def __init__(self, reason: Reason, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out


def connect(address: Address, deadline: int) -> TcpStream:
    """Connect to one of a server's addresses by a deadline (monotonic ns): to the next one where one fails.

    Raises:
        ConnectError: if none can be reached in time, or TLS fails with the one that was.
    """
    failure = ConnectError(Reason.ADDRESS_NOT_ALLOWED)
    for host in address.resolver.order():
        stream = TcpStream(socket.AF_INET6 if ":" in host else socket.AF_INET)
        reached = False
        try:
            stream.connect(host, address.port, deadline)
            reached = True
            if address.tls is not None:
                stream.secure(address.tls, address.server_name, deadline)
        except BaseException as error:
            stream.close()
            address.resolver.failed(host)
            if not isinstance(error, DeadlineError | OSError):
                raise
            failure = _failure(error)
            if reached or isinstance(error, DeadlineError):
                break
        else:
            address.resolver.connected(host)
            return stream
    raise failure from None


def tls_reason(error: ssl.SSLError) -> Reason:
    """The reason for an error of TLS, while connecting or later (TLS 1.3 servers refuse a client certificate late)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_REASONS.get(error.verify_code, Reason.CERTIFICATE_UNTRUSTED)
    name = error.reason or ""
    if "ALERT" in name and ("CERTIFICATE" in name or "UNKNOWN_CA" in name):
        return Reason.CLIENT_CERTIFICATE_REFUSED
    return Reason.TLS_FAILED


def _failure(error: BaseException) -> ConnectError:
    if isinstance(error, DeadlineError | TimeoutError):
        return ConnectError(Reason.CONNECT_TIMEOUT, timed_out=True)
    if isinstance(error, ConnectionRefusedError):
        return ConnectError(Reason.CONNECTION_REFUSED)
    if isinstance(error, ssl.SSLError):
        return ConnectError(tls_reason(error))
    return ConnectError(Reason.CONNECT_FAILED)
