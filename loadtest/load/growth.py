"""Adds users to the pools of a process before they run short of idle ones."""

import fcntl
import gc
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import gevent
import psutil
from gevent.event import Event
from locust.env import Environment

from loadtest.load.pool import Pool

_STEP: Final = 5
"""Users made at once: 5 take about 0.25 ms, for which nothing is sent."""
_PAUSE_S: Final = 0.001
_FREEZE_EVERY: Final = 100
_FILES: Final = 65_536
_SPARE_FILES: Final = 64
"""What a process has open beside a connection for each user."""

logger = logging.getLogger(__name__)


class Growth:
    """Watches pools, and makes more users of the class that is named after a pool when few of its users are idle.

    Args:
        environment: Locust's, whose runner's users they will be, so that it stops them, too.
        pools: by traffic entry.
    """

    def __init__(self, environment: Environment, pools: Mapping[str, Pool]) -> None:
        self._environment = environment
        self._pools = pools
        self._most_users = allow_files() - _SPARE_FILES
        self._made = 0
        self._scarce = Event()
        for pool in pools.values():
            pool.on_scarce = self._scarce.set
        self._greenlet = gevent.spawn(self._grow_forever)

    def stop(self) -> None:
        """Let the pools be as they are."""
        self._greenlet.kill()

    def _grow_forever(self) -> None:
        while True:
            self._scarce.wait()
            self._scarce.clear()
            while scarce := [(name, pool) for name, pool in self._pools.items() if pool.scarce]:
                for name, pool in scarce:
                    self._grow(name, pool)
                    # Not zero, after which the event loop would not look at sockets and timers first.
                    gevent.sleep(_PAUSE_S)

    def _grow(self, name: str, pool: Pool) -> None:
        runner = self._environment.runner
        if runner is None:
            return
        if runner.user_count + _STEP > self._most_users:
            # A user that cannot connect would look like a target that cannot be connected to.
            pool.cap = pool.size
            logger.warning("The pool of %s stays at %d users: no more files may be open (ulimit -n).", name, pool.size)
            return
        # As its spawn_users does it, which counts all users for its log at each call: ms, where there are many.
        make = runner.user_classes_by_name[name]
        step = min(_STEP, pool.cap - pool.size)
        pool.size += step
        self._made += step
        if self._made % _FREEZE_EVERY < step:
            # As at the epoch: users are no garbage, and to look through hundreds of new ones takes ms.
            gc.freeze()
        for _ in range(step):
            make(self._environment).start(runner.user_greenlets)


def allow_files() -> int:
    """Let this process have as many files open as the system lets it, at most 65,536.

    Returns:
        How many that is. Where there is no such limit, as many.
    """
    process = psutil.Process()
    if not hasattr(process, "rlimit"):
        return _FILES
    soft, hard = (_FILES if n == psutil.RLIM_INFINITY else n for n in process.rlimit(psutil.RLIMIT_NOFILE))
    files = max(soft, min(hard, _FILES))
    if soft < files:
        process.rlimit(psutil.RLIMIT_NOFILE, (files, process.rlimit(psutil.RLIMIT_NOFILE)[1]))
    _make_room(min(files, _FILES))
    return files


def _make_room(files: int) -> None:
    """Have the system make room for so many files now.

    Linux doubles the table of a process's files when it is full, and lets a process with several threads wait for
    5 to 15 ms each time.
    """
    with Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, files - 1))
