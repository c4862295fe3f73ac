"""Headers beyond the documented ones: which there may be, and what they are in the end."""

import os
import re
from collections.abc import Mapping
from typing import Final

from loadtest.errors import InputError

OURS: Final = frozenset(
    {
        "accept",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-api-key",
        "x-wf-endpoint",
    }
)
"""What the client sends itself, and what would change what a request is."""
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_VARIABLE: Final = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_SECRET: Final = re.compile(r"auth|cookie|key|pass|secret|session|signature|token")


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Check what a file says of them; gives them with their names in lower case.

    Raises:
        ValueError: if one cannot be sent, is the client's own, or may be a secret and stands there as it is.
    """
    checked: dict[str, str] = {}
    for name, value in headers.items():
        low = name.lower()
        if low in OURS:
            raise ValueError(f"{low} is sent by the client itself")
        if low in checked or _NAME.fullmatch(low) is None:
            raise ValueError(f"{name!r} is no name of a header, or stands there twice")
        if value.startswith("$"):
            if _VARIABLE.fullmatch(value) is None:
                raise ValueError(f"{value!r} is no name of a variable: write it as $NAME")
        elif _SECRET.search(low):
            raise ValueError(f"{low} may be a secret: write $NAME, and put it into the environment by that name")
        elif _VALUE.fullmatch(value) is None:
            raise ValueError(f"{value!r} cannot be sent in a header")
        checked[low] = value
    return checked


def header_values(headers: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What is sent: ``$NAME`` is what the environment holds by that name.

    Raises:
        InputError: if it holds nothing, or what no header can carry. The message does not show it.
    """
    values = {}
    for name, said in headers.items():
        value = environ.get(said[1:], "").strip() if said.startswith("$") else said
        if _VALUE.fullmatch(value) is None:
            raise InputError(
                f"the header {name} is taken from {said[1:]}, which is not set or cannot be sent in a header",
                f"Set {said[1:]} in the environment of every process that makes load.",
            )
        values[name] = value
    return values
