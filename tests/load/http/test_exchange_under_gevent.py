"""The wire as it is used: on gevent's sockets, in a process of its own, since patching cannot be undone."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.load import connection

_RERUN = """
from gevent import monkey
monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(["-p", "no:cacheprovider", "-p", "no:randomly", *sys.argv[1:]]))
"""

_STOPPED = """
from gevent import monkey
monkey.patch_all()
import gevent, socket
from gevent.event import Event
from loadtest.load.exchange import Address, Timeouts, HttpConnection

listener = socket.create_server(("127.0.0.1", 0))
served, arrived = [], Event()

def serve():
    while True:
        connection, _ = listener.accept()
        served.append(connection)
        connection.recv(1000)
        arrived.set()
        if len(served) > 1:
            connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")

gevent.spawn(serve)
wire = HttpConnection(Address("127.0.0.1", listener.getsockname()[1]))
user = gevent.spawn(wire.exchange, b"GET / HTTP/1.1\\r\\n\\r\\n", Timeouts(30.0))
arrived.wait()
assert wire.sending.start > 0
user.kill()
assert wire.sending.bytes_sent > 0, "what was under way is still known"
served[0].sendall(b"HTTP/1.1 500 Late\\r\\ncontent-length: 0\\r\\n\\r\\n")
again = wire.exchange(b"GET / HTTP/1.1\\r\\n\\r\\n", Timeouts(30.0))
assert (again.status, again.reused, again.failure) == (200, False, None), again
assert wire.sending is None
"""


def _python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.heavy
def test_all_of_it_holds_on_gevent_sockets() -> None:
    """Every test of the wire passes where the interpreter is patched, those over TLS too."""
    files = ("test_exchange.py", "test_idle_connections.py", "test_nginx.py")
    _python(_RERUN, *(str(Path(__file__).parent / file) for file in files))


def test_a_user_that_is_stopped_leaves_a_clean_wire() -> None:
    """Killed within an exchange: what was sent is known, and the late answer is never read as the next one."""
    _python(_STOPPED)


def test_the_room_of_the_wire_patches_nothing() -> None:
    """Importing the wire leaves the interpreter as it is: only Locust patches it, in its own process."""
    code = "import socket, loadtest.load.client; assert socket.socket.__module__ == 'socket'"
    _python(code)
    assert connection.socket.socket.__module__ == "socket"
