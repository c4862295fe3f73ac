"""Answers that leave in one write are what uvicorn itself would send, whatever became of their connection."""

import json
import select
import socket
import threading
from typing import Any

from plugins.wire import connect, post, read_all


def split(answers: bytes, *, bodiless: int = 0) -> list[tuple[bytes, dict[bytes, bytes], bytes]]:
    """Answers that follow one another: status line, headers, body; the first ``bodiless`` have none."""
    found = []
    while answers:
        head, separator, answers = answers.partition(b"\r\n\r\n")
        assert separator
        start, *lines = head.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        assert len(headers) == len(lines), head
        length = 0 if len(found) < bodiless else int(headers[b"content-length"])
        assert len(answers) >= length
        found.append((start, headers, answers[:length]))
        answers = answers[length:]
    return found


def test_an_answer_comes_in_one_piece(server: Any) -> None:
    """Head and body are one packet, so that a client's first byte is not before the server's last."""
    with connect(server) as connection:
        for _ in range(20):
            connection.sendall(post(b'{"name":"say-hello"}'))
            ((start, headers, body),) = split(connection.recv(65536))
            assert (start, set(headers)) == (b"HTTP/1.1 200 OK", {b"date", b"content-type", b"content-length"})
            assert json.loads(body)["result"] == {"greeting": "Hello, World!"}


def test_a_client_that_keeps_no_connection_is_told_so(server: Any) -> None:
    """HTTP/1.0, and `Connection: close`, end the connection after the answer, which says it once."""
    hang_up = post(b'{"name":"say-hello"}', "connection: close")
    for request in (post(b'{"name":"say-hello"}', version="1.0"), hang_up):
        with connect(server) as connection:
            connection.sendall(request)
            ((start, headers, body),) = split(read_all(connection))
        assert start == b"HTTP/1.1 200 OK"
        assert headers[b"connection"] == b"close"
        assert json.loads(body)["result"]


def test_an_answer_to_head_has_no_body(server: Any) -> None:
    """It has the length that a body would have, and the connection goes on."""
    with connect(server) as connection:
        connection.sendall(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.sendall(post(b'{"name":"say-hello"}', "connection: close"))
        (start, headers, _), (following, _, body) = split(read_all(connection), bodiless=1)
    assert start == b"HTTP/1.1 405 Method Not Allowed"
    assert int(headers[b"content-length"]) > 0
    assert following == b"HTTP/1.1 200 OK"
    assert json.loads(body)["result"]


def test_a_client_that_does_not_read_gets_everything_in_the_end(server: Any) -> None:
    """Answers that the network does not take yet wait for it: none is lost, cut or out of order."""
    filler, bodies, waiting = "x" * 60_000, [], b""
    with socket.socket() as connection:
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            connection.setsockopt(socket.SOL_SOCKET, buffer, 65536)
        connection.settimeout(60)
        connection.connect(server.address)
        stuck = False
        while not stuck:  # until neither side takes any more
            if not waiting:
                assert len(bodies) < 3000, "the answers fit into the buffers: this tests nothing"
                bodies.append({"name": "echo", "parameters": {"number": len(bodies), "filler": filler}})
                waiting = post(bodies[-1])
            waiting = waiting[connection.send(waiting) :]
            stuck = not select.select([], [connection], [], 0.2)[1]
        waiting += b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        rest = threading.Thread(target=connection.sendall, args=(waiting,))
        rest.start()
        answers = split(read_all(connection))
        rest.join()
    assert answers.pop()[2] == b'{"status":"ok"}'
    assert [json.loads(body)["result"] for _, _, body in answers] == [body["parameters"] for body in bodies]
