"""API keys and workflow endpoint, from environment variables."""

import os
import re
from collections.abc import Mapping
from typing import Final

from loadtest.errors import InputError

KEYS_VARIABLE: Final = "WORKFLOW_API_KEYS"
ENDPOINT_VARIABLE: Final = "WORKFLOW_ENDPOINT"
LOCAL_KEY: Final = "local-dev-key"
"""The API key if WORKFLOW_API_KEYS is unset or blank. This key is public and protects nothing."""
LOCAL_ENDPOINT: Final = "local"
"""The value of ``x-wf-endpoint`` if WORKFLOW_ENDPOINT is unset or blank."""

HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]+")


def api_keys(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the distinct comma-separated keys of WORKFLOW_API_KEYS. If it is unset or blank, return ``LOCAL_KEY``.

    Raises ``InputError`` if a key cannot be sent in a header. The message does not show the key.
    """
    keys = tuple(dict.fromkeys(key.strip() for key in environ.get(KEYS_VARIABLE, "").split(",") if key.strip()))
    for number, key in enumerate(keys, 1):
        if HEADER_SAFE.fullmatch(key) is None:
            raise InputError(
                f"{KEYS_VARIABLE}: key {number} has characters that are not allowed in a header",
                "Check it for spaces, quotes and line ends.",
            )
    return keys or (LOCAL_KEY,)


def workflow_endpoint(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the value of WORKFLOW_ENDPOINT, or None if the variable is unset or blank.

    Raises ``InputError`` if the value cannot be sent in a header.
    """
    endpoint = environ.get(ENDPOINT_VARIABLE, "").strip()
    if endpoint and HEADER_SAFE.fullmatch(endpoint) is None:
        raise InputError(f"{ENDPOINT_VARIABLE} has characters that are not allowed in a header", "Check it for spaces.")
    return endpoint or None


def credentials(environ: Mapping[str, str] = os.environ) -> tuple[tuple[str, ...], str]:
    """Return the keys and the endpoint to send. If a variable is unset or blank, its local default is used.

    Raises ``InputError`` if a key or the endpoint cannot be sent in a header.
    """
    return api_keys(environ), workflow_endpoint(environ) or LOCAL_ENDPOINT


def side_environment(side: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a side (``base`` or ``head``) of ``loadtest compare``.

    For ``head``, a variable ``HEAD_NAME`` replaces ``NAME``. For ``base``, ``BASE_NAME`` does.
    """
    prefix = f"{side.upper()}_"
    own = {name.removeprefix(prefix): value for name, value in environ.items() if name.startswith(prefix)}
    return {**environ, **own}
