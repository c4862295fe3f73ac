"""What the server does on the wire: sizes, framing, garbage, clients that leave."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import psutil
import pytest
from plugins.openapi_answers import expect_error, problems
from plugins.processes import until
from plugins.wire import HEAD, RUN, connect, post, read_all

JOBS = "/v1/workflows/jobs"


def test_a_body_may_have_64_kib_and_no_more(server: Any) -> None:
    """The last allowed byte passes, the next is 413, and the connection stays usable."""
    client = server.client()
    frame = len(json.dumps({"name": "echo", "parameters": {"a": ""}}))
    largest = {"name": "echo", "parameters": {"a": "x" * (65536 - frame)}}
    assert client.post(RUN, content=json.dumps(largest)).status_code == 200
    details = expect_error(client.post(RUN, content=json.dumps(largest) + " "), 413, "body_too_large")
    assert details == {"maxBytes": 65536}
    assert client.get("/healthz").status_code == 200


def test_how_large_a_body_may_be_can_be_said(launch: Any) -> None:
    """The bound is the server's to choose, and is named in the refusal."""
    client = launch("--max-body", "100").client()
    body = b'{"name":"say-hello"}'
    assert client.post(RUN, content=body.ljust(100)).status_code == 200
    assert expect_error(client.post(RUN, content=body.ljust(101)), 413, "body_too_large") == {"maxBytes": 100}


def test_an_oversized_chunked_body_is_413(server: Any) -> None:
    """The limit holds for bodies that don't declare their length."""

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 8192

    client = server.client()
    expect_error(client.post(RUN, content=chunks()), 413, "body_too_large")
    assert client.get("/healthz").status_code == 200


def test_a_chunked_body_within_the_limit_is_read(server: Any) -> None:
    """Chunks make no difference to what a body says."""
    response = server.client().post(RUN, content=iter([b'{"name":', b'"say-', b'hello"}']))
    assert response.json()["result"] == {"greeting": "Hello, World!"}


def test_a_huge_body_is_refused_by_its_declaration(server: Any) -> None:
    """A declared gigabyte is answered before it is sent, and the connection is closed."""
    with connect(server) as connection:
        connection.sendall(f"POST {RUN} HTTP/1.1\r\n{HEAD}content-length: 1000000000\r\n\r\n".encode())
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer


def test_bytes_that_are_not_http_get_the_error_body(server: Any) -> None:
    """Garbage is 400 with the documented body, and the connection is closed."""
    for garbage in (
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    ):
        with connect(server) as connection:
            connection.sendall(garbage)
            head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"\r\ndate: " in head
        assert json.loads(body)["code"] == "malformed_http"


def read_answer(connection: socket.socket) -> bytes:
    """Read one answer with a declared length; no other may follow it at once."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    declared = re.search(rb"content-length: (\d+)", head)
    while declared and len(body) < int(declared[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "offer",
    [
        ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA"),
        ("connection: keep-alive, upgrade", "Upgrade: websocket", "sec-websocket-version: 13"),
    ],
)
def test_an_offer_of_another_protocol_is_left(server: Any, offer: tuple[str, ...]) -> None:
    """Clients that would rather speak HTTP/2 are answered in HTTP/1.1, and no part of their request is lost."""
    body = b'{"name":"echo","parameters":{"a":1}}'
    request = post(body, *offer)
    chunked = request.replace(b"content-length: %d" % len(body), b"transfer-encoding: chunked")
    chunked = chunked.removesuffix(body) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    get = f"GET {JOBS}/x HTTP/1.1\r\n{HEAD}".encode() + "".join(f"{line}\r\n" for line in offer).encode() + b"\r\n"
    with connect(server) as connection:
        for pieces in (
            [request],
            [request[:-20], request[-20:]],
            [request[:60], request[60:-9], request[-9:]],
            [chunked],
        ):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.01)
            assert read_answer(connection).partition(b"\r\n\r\n")[2].startswith(b'{"result":{"a":1}')
        connection.sendall(get)
        assert read_answer(connection).startswith(b"HTTP/1.1 404 ")
        connection.sendall(request + post(b'{"name":"say-hello"}', "connection: close"))
        answers = read_all(connection)
        assert 0 < answers.index(b'"a":1') < answers.index(b"Hello")


def test_any_number_of_offers_may_come_at_once(server: Any) -> None:
    """As many pipelined requests with an offer as one read can take are all answered, in their order."""
    offering = post(b'{"name":"echo"}', "connection: upgrade", "upgrade: h2c")
    with connect(server) as connection:
        connection.sendall(offering * 1500 + post(b'{"name":"say-hello"}', "connection: close"))
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 200 ") == 1501
    assert b"Hello" in answers[-100:]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("X-API-Key: alpha", "X-WF-Endpoint: e"), 200),
        (("x-api-key:alpha", "x-wf-endpoint:e"), 200),
        (("x-api-key:  alpha \t ", "x-wf-endpoint: \te "), 200),
        (("x-api-key: alpha", "x-wf-endpoint: e", "x-wf-endpoint: f"), 200),
        (("x-api-key: alpha", "x-wf-endpoint:  \t"), 400),
        (("x-api-key: alpha", "x-api-key: alpha", "x-wf-endpoint: e"), 401),
        (("x-api-key: beta", "x-api-key: alpha", "x-wf-endpoint: e"), 401),
        (("x-api-key: ", "x-api-key: alpha", "x-wf-endpoint: e"), 401),
        (("x-api-key:  ", "x-wf-endpoint: e"), 401),
    ],
)
def test_how_headers_are_read(server: Any, lines: tuple[str, ...], status: int) -> None:
    """Names in any case; white space around values means nothing; one that comes twice is a list, and no valid key."""
    body = b'{"name":"say-hello"}'
    head = "".join(f"{line}\r\n" for line in lines)
    with connect(server) as connection:
        connection.sendall(
            f"POST {RUN} HTTP/1.1\r\nhost: x\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
        )
        assert read_answer(connection).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"GET {JOBS}/%ff%fe HTTP/1.1", 404),
        (f"GET {JOBS}/%zz HTTP/1.1", 404),
        (f"GET {JOBS}/%00 HTTP/1.1", 404),
        (f"GET {JOBS}/a/../b HTTP/1.1", 404),
        (f"GET http://elsewhere{JOBS}/x HTTP/1.1", 404),
        (f"POST /{RUN} HTTP/1.1", 404),
        (f"GET {JOBS}/x HTTP/1.0", 404),
        ("OPTIONS * HTTP/1.1", 404),
        (f"TRACE {RUN} HTTP/1.1", 405),
        ("CONNECT localhost:80 HTTP/1.1", 400),
        (f"BREW {RUN} HTTP/1.1", 400),
        (f"get {JOBS}/x HTTP/1.1", 400),
        ("PRI * HTTP/2.0", 400),
        (f"GET {JOBS}/x HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked", 400),
        (f"GET {JOBS}/x HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2", 400),
        (f"GET {JOBS}/x HTTP/1.1\r\ncontent-length: -1", 400),
    ],
)
def test_odd_requests_get_one_documented_answer(server: Any, line: str, status: int) -> None:
    """Unusual paths, methods and framings neither break the server nor go unanswered."""
    with connect(server) as connection:
        connection.sendall(f"{line}\r\n{HEAD}\r\n".encode())
        answer = read_answer(connection)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    headers = dict(each.split(": ", 1) for each in head.decode().split("\r\n")[1:])
    method, path = ("", "") if status == 400 else line.split()[:2]  # what isn't HTTP is no operation either
    assert not problems(method, path, status, headers, body)


def test_expect_100_continue_is_answered_before_the_body(server: Any) -> None:
    """A client that waits for leave to send its body gets it."""
    body = b'{"name":"say-hello"}'
    request = post(body, "expect: 100-continue", "connection: close")
    with connect(server) as connection:
        connection.sendall(request.removesuffix(body))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(server: Any) -> None:
    """Two requests in one packet give two answers, the slow first one first."""
    slow = post(b'{"name":"sleep","parameters":{"ms":20}}')
    with connect(server) as connection:
        connection.sendall(slow + post(b'{"name":"say-hello"}', "connection: close"))
        answer = read_all(connection)
    assert 0 < answer.index(b"sleptMs") < answer.index(b"greeting")


def test_a_client_that_never_reads_is_not_read_either(launch: Any) -> None:
    """Requests wait in the client's buffers, and not in the server's memory, while their responses are not read."""
    server = launch()
    requests = f"GET {JOBS}/x HTTP/1.1\r\n{HEAD}\r\n".encode() * 4_000

    def send_all(connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(requests)

    with connect(server) as connection:
        connection.settimeout(0.3)
        before = psutil.Process(server.process.pid).memory_info().rss
        with pytest.raises(TimeoutError):
            send_all(connection)
        assert psutil.Process(server.process.pid).memory_info().rss < before + 50e6
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")


def test_date_is_exact_to_the_second(server: Any) -> None:
    """Every `Date`, errors included, is the second in which the answer was made."""
    client = server.client()
    end = int(time.time()) + 1.1  # beyond the begin of the next second
    while (before := time.time()) < end:
        response: httpx.Response = client.get(JOBS + "/x")
        assert int(before) <= parsedate_to_datetime(response.headers["date"]).timestamp() <= time.time()


def test_a_hung_up_client_stops_its_run(server: Any) -> None:
    """CPU that nobody waits for any more is not spent."""
    process = psutil.Process(server.process.pid)

    def used() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    def idle() -> bool:
        before = used()
        time.sleep(0.3)
        return used() - before < 0.05

    before = used()
    with connect(server) as connection:
        connection.sendall(post(b'{"name":"cpu","parameters":{"ms":60000}}'))
        until(lambda: used() - before > 0.2)
    until(idle)
    assert server.client().get("/healthz").status_code == 200


def test_a_client_that_leaves_amid_its_body_harms_nobody(server: Any) -> None:
    """Half a body and a closed connection leave the server as it was."""
    for _ in range(3):
        with connect(server) as connection:
            connection.sendall(post(b'{"name":"say-hello"}')[:-5])
    assert server.client().post(RUN, json={"name": "say-hello"}).status_code == 200


def chunked(trailer: str, *headers: str) -> bytes:
    """A run whose body comes in a chunk, with a trailer behind it."""
    body = b'{"name":"say-hello"}'
    head = f"POST {RUN} HTTP/1.1\r\nhost: localhost\r\nx-wf-endpoint: tests\r\n" + "".join(f"{h}\r\n" for h in headers)
    head += f"transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n"
    return head.encode() + body + f"\r\n0\r\n{trailer}\r\n\r\n".encode()


def test_trailers_are_ignored(server: Any) -> None:
    """A key behind the body authenticates nobody, and one there beside a good one takes nothing away."""
    with connect(server) as connection:
        connection.sendall(chunked("x-api-key: alpha"))
        assert read_answer(connection).startswith(b"HTTP/1.1 401 ")
        connection.sendall(chunked("x-api-key: nobody", "x-api-key: alpha"))
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "flood",
    [
        [b"x: " + b"y" * 1_000_000],
        [b"x-%d: y\r\n" % n for n in range(100_000)],
        [f"host: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nx: {'y' * 1_000_000}".encode()],
    ],
    ids=["one header", "many headers", "a trailer"],
)
def test_headers_have_a_bound(server: Any, flood: list[bytes]) -> None:
    """Beyond 64 KiB the answer is 431, long before they end, and the connection is closed."""
    with connect(server) as connection:
        connection.sendall(f"POST {RUN} HTTP/1.1\r\n".encode())
        with contextlib.suppress(ConnectionError):  # it hangs up while they are being sent
            connection.sendall(b"".join(flood))
        with contextlib.suppress(ConnectionError):
            assert read_all(connection).startswith(b"HTTP/1.1 431 ")
    assert server.client().get("/healthz").status_code == 200


def test_headers_below_the_bound_are_read_however_they_come(server: Any) -> None:
    """In pieces, and twice on one connection: what is counted is one head."""
    request = f"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {'y' * 60_000}\r\n\r\n".encode()
    with connect(server) as connection:
        for _ in range(2):
            for begin in range(0, len(request), 7_000):
                connection.sendall(request[begin : begin + 7_000])
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("version", "hosts", "status"), [("1.1", 0, 400), ("1.1", 1, 200), ("1.1", 2, 400), ("1.0", 0, 200)]
)
def test_a_request_names_one_host(server: Any, version: str, hosts: int, status: int) -> None:
    """HTTP/1.1 asks for exactly one (RFC 9112, section 3.2)."""
    with connect(server) as connection:
        connection.sendall(f"GET /healthz HTTP/{version}\r\n".encode() + b"host: localhost\r\n" * hosts + b"\r\n")
        assert read_answer(connection).startswith(f"HTTP/1.1 {status} ".encode())
