"""Where the API is, and the bytes of a request to it: put together from parts that are made once."""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from loadtest.load.budget import Budget
from loadtest.load.wire import Address
from loadtest.samples import Kind

_PATHS: Final = {"run": "/v1/workflows/run", "submit": "/v1/workflows/jobs", "retrieve": "/v1/workflows/jobs/"}
_WRONG_KEY: Final = "not-a-key"


class Endpoint:
    """Where the API is and with which keys it is asked: made once, shared by all clients.

    Args:
        address: where to connect to.
        host: value of the Host header.
        prefix: path before ``/v1``, without a slash at its end.
        keys: API keys; a request of key index i is sent with ``keys[i]``.
        workflow_endpoint: value of ``x-wf-endpoint``.
        user_agent: product, version and run.
        headers: what every request carries beyond those, by name.
        budget: what is taken from before each send; no bounds by default.
    """

    def __init__(
        self,
        address: Address,
        *,
        host: str,
        prefix: str,
        keys: Sequence[str],
        workflow_endpoint: str,
        user_agent: str,
        headers: Mapping[str, str] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.address = address
        self.budget = budget or Budget()
        self.key_count = len(keys)
        self.wrong_key = len(keys)
        """A key index whose requests carry no valid key."""
        self._prefix = quote(prefix, safe="/%:@!$&'()*+,;=~")
        # A scenario's file name is in the run's id, and may hold anything.
        agent = re.sub(r"[^\x20-\x7e]", "?", user_agent)
        common = f" HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\naccept: application/json\r\n"
        common += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._heads = [
            f"{common}x-api-key: {key}\r\nx-wf-endpoint: {workflow_endpoint}\r\n".encode("latin-1")
            for key in (*keys, _WRONG_KEY)
        ]
        self._posts = {
            kind: [
                f"POST {self._prefix}{_PATHS[kind]}".encode() + head + b"content-type: application/json\r\n"
                for head in self._heads
            ]
            for kind in ("run", "submit")
        }

    def post(self, kind: Kind, body: bytes, key_index: int, trace: str) -> bytes:
        """A whole run or submit."""
        head = self._posts[kind][key_index]
        return b"%bcontent-length: %d\r\ntraceparent: %b\r\n\r\n%b" % (head, len(body), trace.encode(), body)

    def get(self, job_id: str, key_index: int, trace: str) -> bytes:
        """A whole retrieval. The id is quoted, since it comes from outside."""
        line = f"GET {self._prefix}{_PATHS['retrieve']}{quote(job_id, safe='')}".encode()
        return line + self._heads[key_index] + f"traceparent: {trace}\r\n\r\n".encode()
