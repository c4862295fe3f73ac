"""A bare uvicorn "hello" on the reference API's event loop and parser: the peer of the target's benches.

Run: ``python bench/peers/hello.py [reading]``; with ``reading`` it reads the body of each request first.
"""

import socket
import sys
from typing import Any

import uvicorn


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    """The least that an ASGI application can do."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


async def reading(scope: Any, receive: Any, send: Any) -> None:
    """The same, once the request's body was read."""
    while (await receive()).get("more_body"):
        pass
    await hello(scope, receive, send)


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"bare hello on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    application = reading if sys.argv[1:] == ["reading"] else hello
    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "ws": "none", "lifespan": "off"}
    config = uvicorn.Config(application, **options, access_log=False, log_config=None, proxy_headers=False)
    uvicorn.Server(config).run(sockets=[listener])
