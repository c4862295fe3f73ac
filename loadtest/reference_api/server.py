"""The server process. It binds its ports, announces its address, serves, and stops cleanly."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

import uvicorn
import uvloop

from loadtest.errors import InputError
from loadtest.processes import allow_files
from loadtest.reference_api.app import WorkflowApi
from loadtest.reference_api.execution import STOP_TIMEOUT, Threads
from loadtest.reference_api.faulty_api import FaultyApi, controlled
from loadtest.reference_api.loading import load_workflows
from loadtest.reference_api.monitoring import Monitoring
from loadtest.reference_api.protocol import Connection, SilentServer, uvicorn_config
from loadtest.reference_settings import ServerConfig

KEEP_ALIVE = 75
"""An idle connection is closed after this many seconds. Pauses between polls are usually shorter."""

GRACE = 1.2
"""After the signal to stop, requests in flight have this many seconds to finish. The rest get a 503."""


class _Server(SilentServer):
    """A server that reports when it is ready, and stops on request or at a signal."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], monitoring: Monitoring) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._monitoring = monitoring

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.ask_to_stop(loop))
        self._on_ready()

    def ask_to_stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop the server soon. Threads and signal handlers can call this, even while the event loop is blocked."""
        self._monitoring.stopping = True
        loop.call_soon_threadsafe(self.stop)

    def stop(self) -> None:
        """Stop accepting requests. Requests in flight have ``GRACE`` seconds to finish."""
        if not self.should_exit:
            self.should_exit = True
            asyncio.get_running_loop().call_later(GRACE, self._cancel_requests)

    def _cancel_requests(self) -> None:
        for task in list(self.server_state.tasks):
            task.cancel()


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """Listen on ``host``:``port``. Port 0 selects a free port. Raise ``InputError`` if the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        problem = os.strerror(error.errno) if error.errno else str(error)
        remedy = f"Choose another {option}, or 0 for a free port."
        raise InputError(f"{option} {port}: cannot listen on {host}:{port}: {problem}", remedy) from None
    return listener


def serve(config: ServerConfig, announce: Callable[[str, str | None], None], *, exit_with_parent: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. Raise ``InputError`` if the address or a workflow is not available.

    ``announce`` gets the base URL and the control endpoint's URL, if any, once the server is ready. With
    ``exit_with_parent``, the server also stops when standard input ends, because the parent process has then ended.
    """
    allow_files()
    threads = Threads(config.threads)
    workflows = load_workflows(config, threads)
    listener = bind(config.host, config.port)
    control = None if config.control_port is None else bind("127.0.0.1", config.control_port, "--control-port")
    # A server that can have no faults need not pay for the code that applies them.
    faulty = FaultyApi(config, workflows) if config.fault or control is not None else None
    api = WorkflowApi(config, workflows) if faulty is None else faulty.api

    def ready() -> None:
        if faulty is not None:
            faulty.begin()
        gc.freeze()  # the collector need not scan these permanent objects
        if exit_with_parent:
            threading.Thread(target=_watch_stdin, args=(server, asyncio.get_running_loop()), daemon=True).start()
        announce(_url(listener), None if control is None else _url(control))

    settings = uvicorn_config(
        faulty or api, http=Connection, timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=2
    )
    server = _Server(settings, ready, api.monitoring)

    async def run() -> None:
        try:
            async with controlled(faulty, control):
                await server.serve(sockets=[listener])
        finally:
            api.jobs.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
        runner.run(_end(threads))


async def _end(threads: Threads) -> None:
    """Stop all executions. If workflow functions still run, end the process."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    left = await threads.close()
    # Some executions ignore their cancellation.
    deaf = (await asyncio.wait(others, timeout=STOP_TIMEOUT))[1] if others else ()
    if left := left + len(deaf):
        # The interpreter and the event loop would wait for these functions. They hold no resources of the server.
        what = "1 workflow function" if left == 1 else f"{left} workflow functions"
        print(f"loadtest serve: {what} did not stop and will end with the process", file=sys.stderr)
        sys.stdout.flush()
        os._exit(0)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _watch_stdin(server: _Server, loop: asyncio.AbstractEventLoop) -> None:
    # This reads the descriptor, because a daemon thread would hold sys.stdin's lock while the interpreter shuts down.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop is closed: the server has already stopped
        server.ask_to_stop(loop)
