"""Processes of ours that begin as forks of a warm process. This saves their imports, which take up to a second.

A fork has its own pid, signals, session and descriptors. It differs from a cold process in two ways: its command line
is that of the warm process, and its modules are already imported. Processes that a fork starts are cold.

The workers of one run share the warm processes, which end with the worker that started them.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import posix
import random
import resource
import runpy
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from signal import SIG_DFL, SIG_IGN, SIGCHLD, SIGINT, SIGKILL, SIGTERM, default_int_handler, signal
from typing import IO, Any, Self

_IMPORTED = {
    "loadtest.load": ("loadtest.load.__main__",),
    "loadtest.load.check": ("loadtest.load.check",),
    "loadtest.cli": ("loadtest.reference_api.server", "uvloop", "loadtest.reference_api.command", "loadtest.cli.run"),
    "loadtest.report": ("loadtest.report.run", "loadtest.report.formats"),
    "loadtest.report.advice": ("loadtest.report.advice",),
    "loadtest.report.capacity": ("loadtest.report.capacity",),
    "loadtest.report.probe": ("loadtest.report.probe",),
    "loadtest.report.regression": ("loadtest.report.regression",),
    "loadtest.preflight": ("loadtest.preflight.__main__", "loadtest.preflight.client"),
    "loadtest.preflight.probing": ("loadtest.preflight.probing",),
    "loadtest.analysis": ("loadtest.analysis.__main__",),
}
"""Modules that may begin warm, with the modules that are imported for them."""
_LOCUST = ("loadtest.load", "loadtest.load.check")
"""These modules begin in another warm process. Locust has patched its interpreter."""
_LIMITS = (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
_ENVIRONMENT = dict(os.environ)  # before a test changes it
_Cold = subprocess.Popen  # a test may put `start` in its place


def _steering(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Python reads when it starts. They have no effect on a fork."""
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


class _Warm:
    """A process that has imported the modules of one kind, and forks processes that run them.

    It receives orders as datagrams at a socket name that the workers of a run share. The worker that binds the name
    starts the process.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._name = f"\0loadtest-tests-{_ENVIRONMENT.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}-{kind}"

    def _begin(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as orders:
            try:
                orders.bind(self._name)
            except OSError:  # another worker was quicker
                return
            # Python 3.12 and later warn about threads. Here, only NumPy has threads.
            quiet = ("-W", "ignore:This process:DeprecationWarning")
            process = _Cold(
                [sys.executable, *quiet, __file__, str(orders.fileno()), self._kind],
                pass_fds=[orders.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=_ENVIRONMENT,
            )
        # The process ends with its input. Once we have waited for it, its CPU time counts as ours.
        atexit.register(process.communicate)

    def start(self, files: list[int], **order: Any) -> tuple[socket.socket, int]:
        """Start a process. Return the connection that delivers its wait status, and its pid."""
        data = json.dumps(order).encode()
        for _ in range(5):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as orders:
                try:
                    orders.connect(self._name)
                    socket.send_fds(orders, [data], [theirs.fileno(), *files])
                except ConnectionRefusedError:
                    self._begin()
            if pid := ours.recv(100):
                return ours, int(pid)
            ours.close()  # the process has not begun yet, or it ended with its worker
        raise RuntimeError(f"the process that is to fork {self._kind} does not start")


_warm = functools.cache(_Warm)


class Process:
    """A fork of a warm process, with the methods of ``subprocess.Popen`` that we use."""

    stdin: IO[Any] | None = None
    stdout: IO[Any] | None = None
    stderr: IO[Any] | None = None
    returncode: int | None = None

    def __init__(self, args: list[str], status: socket.socket, pid: int) -> None:
        self.args = args
        self.pid = pid
        self._status = status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in filter(None, (self.stdin, self.stdout, self.stderr)):
            stream.close()
        self.wait()

    def poll(self) -> int | None:
        """Return the exit code, which is negative for a signal. Return None while the process runs."""
        if self.returncode is None:
            with suppress(BlockingIOError):
                status = self._status.recv(100, socket.MSG_DONTWAIT)
                if status or self.returncode is None:  # a signal's handler may have polled, too
                    self.returncode = os.waitstatus_to_exitcode(int(status or SIGKILL))
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.poll() is None:
            ended = select.poll()
            ended.register(self._status, select.POLLIN)
            ended.poll(None if timeout is None else timeout * 1000)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self._status.close()
        return code

    def communicate(self, given: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Write the process's input and close it, read its output, and wait for its end."""
        said: dict[IO[Any], Any] = {}
        streams = [stream for stream in (self.stdout, self.stderr) if stream is not None]
        readers = [threading.Thread(target=lambda of=stream: said.update({of: of.read()})) for stream in streams]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            with suppress(BrokenPipeError):  # the process ended without reading
                if given:
                    self.stdin.write(given)
                self.stdin.close()
        for reader in readers:
            reader.join()
        self.wait(timeout)
        return said.get(self.stdout), said.get(self.stderr)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # The process may end between the two calls.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        self.send_signal(SIGKILL)


def start(
    command: list[Any],
    *,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    text: bool = False,
    start_new_session: bool = False,
    **more: Any,
) -> Any:
    """Start a process like ``subprocess.Popen``. ``python -m MODULE`` begins warm if that makes no difference."""
    environment = dict(os.environ if env is None else env)
    module = command[2] if command[:2] == [sys.executable, "-m"] else ""
    changed = _steering(environment) != _steering(_ENVIRONMENT)
    if module not in _IMPORTED or changed or more:
        options = {**more, "text": text, "start_new_session": start_new_session, "env": env, "cwd": cwd}
        return _Cold(command, stdin=stdin, stdout=stdout, stderr=stderr, **options)
    files: list[int] = []
    pipes: dict[str, IO[Any]] = {}
    with ExitStack() as theirs:

        def opened(descriptor: int) -> None:
            files.append(descriptor)
            theirs.callback(os.close, descriptor)

        for number, given in enumerate((stdin, stdout, stderr)):
            if given == subprocess.PIPE:
                read, write = os.pipe()
                opened(write if number else read)
                ours, mode = (read, "r") if number else (write, "w")
                pipes[("stdin", "stdout", "stderr")[number]] = os.fdopen(ours, mode if text else f"{mode}b")
            elif given == subprocess.DEVNULL:
                opened(os.open(os.devnull, os.O_RDWR))
            elif given == subprocess.STDOUT:
                files.append(files[1])
            else:
                files.append(number if given is None else given if isinstance(given, int) else given.fileno())
        status, pid = _warm("locust" if module in _LOCUST else "rest").start(
            files,
            module=module,
            arguments=[str(each) for each in command[3:]],
            folder=os.path.realpath(cwd or "."),
            environment=environment,
            session=start_new_session,
            limits=[resource.getrlimit(each) for each in _LIMITS],
        )
    process = Process(command, status, pid)
    process.stdin, process.stdout, process.stderr = map(pipes.get, ("stdin", "stdout", "stderr"))
    return process


def _serve(orders: socket.socket, waiting: "select.poll") -> tuple[str, list[str]]:
    """Fork a process for each order. Return only in these processes, with module and arguments."""
    signal(SIGINT, SIG_IGN)
    signal(SIGCHLD, SIG_DFL)
    waiting.register(orders, select.POLLIN)
    waiting.register(0, select.POLLIN)
    while True:
        ready = dict(waiting.poll())
        with suppress(ChildProcessError):
            while posix.waitpid(-1, os.WNOHANG)[0]:
                pass
        if 0 in ready:
            os._exit(0)
        data, descriptors, *_ = socket.recv_fds(orders, 1 << 20, 4)
        if not posix.fork():
            break
        for each in descriptors:
            posix.close(each)
    # A process between the warm process and the fork waits for the fork's end.
    orders.close()
    status, *files = descriptors
    if process := posix.fork():
        for each in files:
            posix.close(each)
        os.write(status, b"%d" % process)
        ended = posix.waitpid(process, 0)[1]
        with suppress(OSError):
            os.write(status, b"%d" % ended)
        os._exit(0)
    posix.close(status)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        posix.close(file)
    signal(SIGINT, default_int_handler)
    order = json.loads(data)
    for which, limits in zip(_LIMITS, order["limits"], strict=True):
        resource.setrlimit(which, limits)
    if order["session"]:
        os.setsid()
    os.chdir(order["folder"])
    sys.path[0] = order["folder"]
    os.environ.clear()
    os.environ.update(order["environment"])
    random.seed()
    return order["module"], order["arguments"]


def _main(descriptor: str, kind: str) -> None:
    orders, waiting = socket.socket(fileno=int(descriptor)), select.poll()  # before Locust patches these modules
    gc.disable()
    sys.path[0] = str(Path(__file__).parents[2])
    for name, modules in _IMPORTED.items():
        if (name in _LOCUST) == (kind == "locust"):
            for each in modules:
                importlib.import_module(each)
    gc.freeze()
    module, arguments = _serve(orders, waiting)
    if gevent := sys.modules.get("gevent"):
        gevent.reinit()
    gc.enable()
    sys.argv = [module, *arguments]
    # The module is executed again as __main__.
    package = hasattr(sys.modules.get(module), "__path__")
    sys.modules.pop(f"{module}.__main__" if package else module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
