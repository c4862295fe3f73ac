"""Processes of ours that begin as forks of a warm one, which saves what each import costs: up to a second.

They are processes like others, with their own pids, signals, sessions and descriptors. Two things differ: their command
line is that of the warm process, and its modules are imported. What a process starts by itself begins cold. Tests of
the command line as a process, and of workers, do it in this way.
"""

import functools
import gc
import importlib
import inspect
import json
import os
import posix
import random
import resource
import runpy
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from signal import SIG_DFL, SIG_IGN, SIGCHLD, SIGINT, SIGKILL, default_int_handler, signal
from typing import Any, AnyStr

_IMPORTED = {
    "loadtest.load": ("loadtest.load.__main__",),  # first, because Locust patches the interpreter
    "loadtest.cli": ("loadtest.reference_api.server", "uvloop", "loadtest.cli.serve", "loadtest.cli.run"),
    "loadtest.report": ("loadtest.report.run", "loadtest.report.formats.terminal"),
    "loadtest.report.advice": (),
    "loadtest.preflight": ("loadtest.preflight.__main__", "loadtest.preflight.client"),
    "loadtest.analysis": ("loadtest.analysis.__main__",),
}
"""Modules that may begin warm, and what is imported for them."""


def _surroundings(environment: dict[str, str]) -> object:
    """What a fork would take from the warm process instead of its parent."""
    limits = [resource.getrlimit(each) for each in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)]
    return limits, {name: value for name, value in environment.items() if name.startswith("PYTHON")}


class _Warm:
    """A process that has imported what a kind of processes needs, and forks them."""

    def __init__(self, kind: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.surroundings = _surroundings(dict(os.environ))
        self.process = subprocess.Popen(
            # Python 3.12 and later warn of threads, which here are those of NumPy alone.
            [sys.executable, "-W", "ignore:This process:DeprecationWarning", __file__, str(theirs.fileno()), kind],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        self._socket = ours

    def start(self, files: list[int], **order: Any) -> tuple[socket.socket, int]:
        """Start a process; gives the connection that brings its wait status, and its pid."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._socket, [json.dumps(order).encode()], [theirs.fileno(), *files])
        return ours, int(ours.recv(100))


_warm = functools.cache(_Warm)


class Popen(subprocess.Popen[AnyStr]):
    """As ``subprocess.Popen``; ``python -m MODULE`` begins warm, where that makes no difference."""

    _status: socket.socket | None = None

    def _execute_child(self, *given: Any) -> None:  # type: ignore[override]
        how = inspect.signature(super()._execute_child).bind(*given).arguments  # type: ignore[misc]
        command, environment = list(map(str, how["args"])), dict(how["env"] or os.environ)
        module = command[2] if command[:2] == [sys.executable, "-m"] else ""
        warm = _warm("loadtest.load" if module == "loadtest.load" else "rest") if module in _IMPORTED else None
        if warm is None or how["preexec_fn"] or how["pass_fds"] or warm.surroundings != _surroundings(environment):
            super()._execute_child(*given)  # type: ignore[misc]
            return
        files = [how[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        self._status, self.pid = warm.start(
            [standard if file == -1 else file for standard, file in enumerate(files)],
            module=module,
            arguments=command[3:],
            folder=os.path.realpath(how["cwd"] or "."),
            environment=environment,
            session=how["start_new_session"],
        )
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined]
            *(how[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
        )

    def _internal_poll(self, *given: Any, **options: Any) -> int | None:  # type: ignore[override]
        if self._status is None:
            return super()._internal_poll(*given, **options)  # type: ignore[misc,no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None and (found := self._try_wait(os.WNOHANG))[0]:
                    self._handle_exitstatus(found[1])  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(flags)  # type: ignore[misc,no-any-return]
        try:
            status = int(self._status.recv(100, socket.MSG_DONTWAIT if flags else 0) or SIGKILL)
        except BlockingIOError:
            return 0, 0
        self._status.close()
        return self.pid, status


def _serve(requests: socket.socket) -> tuple[str, list[str]]:
    """Fork a process for each order. Returns only in such processes, with module and arguments."""
    signal(SIGINT, SIG_IGN)
    signal(SIGCHLD, SIG_IGN)
    while True:
        data, descriptors, *_ = socket.recv_fds(requests, 1 << 20, 4)
        if not data:
            os._exit(0)
        if not posix.fork():
            break
        for each in descriptors:
            posix.close(each)
    # Between both is a process that waits for the end of this one alone.
    signal(SIGCHLD, SIG_DFL)
    status, *files = descriptors
    if process := posix.fork():
        for each in files:
            posix.close(each)
        os.write(status, b"%d" % process)
        ended = posix.waitpid(process, 0)[1]
        with suppress(OSError):
            os.write(status, b"%d" % ended)
        os._exit(0)
    requests.close()
    posix.close(status)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        posix.close(file)
    signal(SIGINT, default_int_handler)
    order = json.loads(data)
    if order["session"]:
        os.setsid()
    os.chdir(order["folder"])
    sys.path[0] = order["folder"]
    os.environ.clear()
    os.environ.update(order["environment"])
    random.seed()
    return order["module"], order["arguments"]


def _main(descriptor: str, kind: str) -> None:
    requests = socket.socket(fileno=int(descriptor))  # before Locust patches sockets, as are the names above
    gc.disable()
    sys.path[0] = str(Path(__file__).parents[2])
    for name, modules in _IMPORTED.items():
        if (name == "loadtest.load") == (kind == "loadtest.load"):
            for each in modules:
                importlib.import_module(each)
    gc.freeze()
    module, arguments = _serve(requests)
    if gevent := sys.modules.get("gevent"):
        gevent.reinit()
    gc.enable()
    sys.argv = [module, *arguments]
    sys.modules.pop(f"{module}.__main__", None)  # it runs anew
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
