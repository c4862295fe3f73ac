"""The addresses of the target: taken in turn, looked up again from time to time, and counted.

What may be loaded was checked before the run; a name that leads elsewhere later on is checked again, and not followed
to where it may not lead.
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
"""Seconds that somebody who connects waits for a look-up; then what is known has to do."""


class Names:
    """Numeric addresses of one server.

    Args:
        addresses: those that were checked, the preferred one first.
        look_up: gives them anew, of those that may be loaded; None where there is no name to look up.
            Raises ``UnresolvedError`` where nothing can be learned, another ``InputError`` where none may be loaded.
        now: a clock, in seconds.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        look_up: Callable[[], Sequence[str]] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peers: dict[str, PeerInfo] = {}
        """What was connected to, by address."""
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


def names_of(target: Target, *, listed: bool) -> Names:
    """The addresses of a target, looked up again where it has a name; then they are checked again.

    Args:
        target: one that may be loaded.
        listed: whether that is by an entry; else it may lead to loopback only.
    """
    try:
        ipaddress.ip_address(target.server_name.partition("%")[0])
    except ValueError:
        return Names(target.addresses, lambda: allow(target.url, listed=listed).addresses)
    return Names(target.addresses)
