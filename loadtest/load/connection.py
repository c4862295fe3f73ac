"""TCP connections, with or without TLS, to the checked addresses of a server.

New connections use a server's addresses in turn. The server's name is resolved again from time to time. The new
addresses are checked, because a name may later lead to an address that must not be loaded.
"""

import ipaddress
import select
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
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
"""A connection that was idle for less than this is assumed open: Node.js closes it after 5 s, nginx after 75 s."""
_NOT_YET: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# X509_V_ERR_… of OpenSSL's x509_vfy.h
_CERTIFICATE_REASONS: Final = {
    9: Reason.CERTIFICATE_NOT_YET_VALID,
    10: Reason.CERTIFICATE_EXPIRED,
    62: Reason.CERTIFICATE_WRONG_NAME,
    64: Reason.CERTIFICATE_WRONG_NAME,
}
# gevent has patched these names. The originals are needed, because this module waits with watchers of the event loop.
_poll = monkey.get_original("select", "poll")
_Socket = monkey.get_original("socket", "socket")
FRESH: Final = 60.0
"""A name is resolved again after this many seconds."""
PATIENCE: Final = 1.0
"""A new connection waits at most this many seconds for name resolution. Then it uses the previous addresses."""


class Resolver:
    """Checked numeric addresses of one server, in order of preference.

    If the server has a name, ``look_up`` resolves it and returns checked addresses. It raises ``UnresolvedError`` if
    resolution fails, and another ``InputError`` if an address must not be loaded. ``now`` is a clock, in seconds.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        look_up: Callable[[], Sequence[str]] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peers = defaultdict[str, PeerInfo](PeerInfo)
        self._addresses = tuple(addresses)
        self._look_up = look_up
        self._now = now
        self._looked = now()
        self._under_way: gevent.Greenlet | None = None
        self._turn = 0

    def order(self) -> list[str]:
        """Return the addresses to try for the next connection, in order. The list is empty if none may be loaded.

        Addresses with the IP version of the first address come first, in rotating order.
        """
        if self._look_up is not None and (self._under_way is not None or self._now() - self._looked >= FRESH):
            # All callers share one look-up.
            if self._under_way is None:
                self._under_way = gevent.spawn(self._look, self._look_up)
            self._under_way.join(PATIENCE)
        known = self._addresses
        preferred = [each for each in known if (":" in each) == (":" in known[0])]
        if preferred:
            first = self._turn % len(preferred)
            preferred = preferred[first:] + preferred[:first]
        self._turn += 1
        return preferred + [each for each in known if each not in preferred]

    def _look(self, look_up: Callable[[], Sequence[str]]) -> None:
        try:
            self._addresses = tuple(look_up())
        except InputError as error:
            # If the name cannot be resolved now, the previous addresses stay in use.
            if not isinstance(error, UnresolvedError):
                self._addresses = ()
        finally:
            self._looked = self._now()
            self._under_way = None


def make_resolver(target: Target, *, listed: bool) -> Resolver:
    """Return the resolver of a target, which is ``listed`` if it has an entry in ``targets.toml``."""
    try:
        ipaddress.ip_address(target.server_name.partition("%")[0])
    except ValueError:
        return Resolver(target.addresses, lambda: allow(target.url, listed=listed).addresses)
    return Resolver(target.addresses)


class DeadlineError(Exception):
    """A deadline has passed."""


class TcpStream:
    """A TCP connection. Only one greenlet may wait for it at a time.

    Deadlines are monotonic ns. Methods raise ``DeadlineError`` after the deadline, and ``OSError`` if the connection
    fails. A gevent socket starts a timer and a watcher for each wait. This class keeps one watcher running for all
    reads, and one timer for many waits.
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
        self._turn = self._used = self._deadline = 0
        self._alarm: Any = None
        self._alarm_at = _NEVER

    def connect(self, host: str, port: int, deadline: int) -> None:
        try:
            self.socket.connect((host, port))
        except BlockingIOError:
            self._wait_writable(deadline)
            if (error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                raise OSError(error, "") from None
        self._readable.start(self._on_readable)

    def secure(self, context: ssl.SSLContext, server_name: str, deadline: int) -> None:
        """Start TLS and verify the server's name, or raise ``ssl.SSLError``."""
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
        """Whether an idle connection is usable. If it is readable, it was closed, or got an unexpected answer.

        The event loop watches for data. A system call finds data that arrived since the loop's last turn. The call is
        skipped if the connection was in use recently, and the loop has had a turn since then.
        """
        if self._spoiled:
            return False
        watched = self._hub.loop.iteration != self._turn and time.monotonic_ns() - self._used < _FRESH_NS
        return watched or not self._poll.poll(0)

    def rest(self, now: int) -> None:
        """Mark the connection as idle from ``now`` (monotonic ns) on."""
        self._used = now
        self._turn = self._hub.loop.iteration

    def send(self, data: bytes, deadline: int) -> None:
        left: bytes | memoryview[int] = data
        while True:
            try:
                sent = self.socket.send(left)
            except _NOT_YET:
                sent = 0
            if sent == len(left):
                return
            left = memoryview(left)[sent:]
            self._wait_writable(deadline)

    def receive(self, deadline: int) -> bytes:
        """Wait for data and return it, or return ``b""`` at the end of the stream."""
        while True:
            self.wait(deadline)
            try:
                data: bytes = self.socket.recv(_RECEIVE)
            except _NOT_YET:
                # TLS has received an incomplete record or a control message.
                continue
            return data

    def wait(self, deadline: int) -> None:
        """Wait until the socket is readable, or writable in a call from ``_wait_writable``."""
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

    def _wait_writable(self, deadline: int) -> None:
        # An early answer must not wake a greenlet that is still sending.
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
            # Unexpected data makes the connection unusable. If the watcher were not stopped, it would fire forever.
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
        # The timer may have been set for an earlier wait that has ended.
        self._stop_alarm()
        if (waiting := self._waiting) is None:
            return
        if self._deadline > time.monotonic_ns():
            self._set_alarm(self._deadline)
        else:
            self._waiting = None
            waiting.throw(DeadlineError)


class Address:
    """Address and TLS settings of a server, shared by all connections to it.

    By default, the resolver returns only ``host``, a numeric address. The server's certificate must prove
    ``server_name``. ``codings`` are the accepted content codings (RFC 9110, section 12.5.3), in lower case.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        resolver: Resolver | None = None,
        codings: frozenset[str] = frozenset(),
    ) -> None:
        self.port, self.tls, self.server_name, self.codings = port, tls, server_name, codings
        self.resolver = resolver or Resolver((host,))


class ConnectError(Exception):
    """A connection attempt failed."""

    def __init__(self, reason: Reason, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out


def connect(address: Address, deadline: int) -> TcpStream:
    """Connect to the first reachable address before a deadline (monotonic ns), or raise ``ConnectError``."""
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
            address.resolver.peers[host].failed += 1
            if not isinstance(error, DeadlineError | OSError):
                raise
            failure = _failure(error)
            if reached or isinstance(error, DeadlineError):
                break
        else:
            address.resolver.peers[host].connections += 1
            return stream
    raise failure from None


def tls_reason(error: ssl.SSLError) -> Reason:
    """Return the reason for a TLS error, during or after the handshake.

    With TLS 1.3, the client learns only after the handshake that the server rejects the client's certificate.
    """
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
