"""Requests that offer to go on in another protocol, as some clients' do: they are answered in HTTP/1.1.

The parser takes what follows such a request's head for the other protocol, and its body would be lost.
"""

import sys

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class UpgradesIgnored(HttpToolsProtocol):
    """A connection on which ``Upgrade`` is what RFC 9110 says that it is: an offer, to be taken or left."""

    _fed = b""
    _again: bytes | None = None

    def data_received(self, data: bytes) -> None:
        """Parse what has come; again, as long as there are offers in it."""
        self._again = data
        while (fed := self._again) is not None:  # a loop, since a client may send any number of them at once
            self._fed, self._again = fed, None
            super().data_received(fed)

    def _should_upgrade(self) -> bool:
        # Only asked where the parser saw an offer. "Yes" keeps the request from being answered before its body.
        return True

    def handle_websocket_upgrade(self) -> None:
        """Let the request be parsed again, without its offer."""
        error = sys.exc_info()[1]  # the parser says by it where it stopped
        method = self.scope["method"]
        if method == "CONNECT" or error is None:
            self.send_400_response("This is no proxy")
            return
        start = f" HTTP/{self.parser.get_http_version()}\r\n".encode()
        head = [method.encode(), b" ", self.url, start]
        for name, value in self.headers:
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self._again = b"".join([*head, b"\r\n", self._fed[error.args[0] :]])
