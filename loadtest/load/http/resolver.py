"""The addresses of the target: taken in turn, looked up again from time to time, and counted.

They were checked before the run. A name that leads elsewhere later on is checked again, and not followed to an address
that may not be loaded.
"""

import ipaddress
import time
from collections.abc import Callable, Sequence
from typing import Final

import gevent

from loadtest.errors import InputError
from loadtest.record.run_info import PeerInfo
from loadtest.targets import Target, UnresolvedError, allow

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
        """Count a connection."""
        self._peer(address).connections += 1

    def failed(self, address: str) -> None:
        """Count a connection that could not be made."""
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

    Args:
        target: one that may be loaded.
        listed: whether an entry of ``targets.toml`` allows it; else it may lead to loopback only.
    """
    try:
        ipaddress.ip_address(target.server_name.partition("%")[0])
    except ValueError:
        return Resolver(target.addresses, lambda: allow(target.url, listed=listed).addresses)
    return Resolver(target.addresses)
