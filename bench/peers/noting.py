"""A server that answers at once, and notes when each request came.

Run by ``bench/pacing.py``: prints its port; at the end of its input it prints the times as JSON (ns) and ends.
It knows as much of the API as a run of retrievals asks for. One process, one thread, no library.
"""

import gc
import json
import select
import socket
import sys
import time

SUBMITTED = b'{"jobId":"j","status":"pending"}'
COMPLETED = b'{"jobId":"j","status":"completed","result":{},"executionTime":0.1}'


def answer(status: bytes, body: bytes) -> bytes:
    """A whole answer."""
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def main() -> None:
    """Serve until the end of the input."""
    accepted, ok = answer(b"202 Accepted", SUBMITTED), answer(b"200 OK", COMPLETED)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    open_by_fd: dict[int, socket.socket] = {}
    times: list[int] = []
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    gc.disable()
    while True:
        for fd, _ in poll.poll():
            now = time.monotonic_ns()
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_by_fd[connection.fileno()] = connection
                poll.register(connection.fileno(), select.EPOLLIN)
            elif fd == sys.stdin.fileno():
                print(json.dumps(times))
                return
            elif request := received(open_by_fd[fd]):
                if request.startswith(b"GET"):
                    times.append(now)
                    open_by_fd[fd].send(ok)
                else:
                    open_by_fd[fd].send(accepted)
            else:
                poll.unregister(fd)
                open_by_fd.pop(fd).close()


def received(connection: socket.socket) -> bytes:
    """Return the next bytes of a connection; none if the client has closed or reset it."""
    try:
        return connection.recv(65_536)
    except ConnectionResetError:
        return b""


if __name__ == "__main__":
    main()
