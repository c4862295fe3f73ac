"""Parser for curl commands that call the API.

The API key is parsed only so that it can be kept out of all files. Messages show no part of the command that could be
the key.
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import click

from loadtest.contract import FIRST_KIND, JOB_KINDS, JOB_OPERATIONS, REQUESTS, Operation
from loadtest.credentials import HEADER_SAFE
from loadtest.errors import InputError
from loadtest.processes import is_loopback
from loadtest.targets import server_of

_DATA: Final = ("-d", "--data", "--data-raw", "--data-ascii", "--data-binary", "--json")
_VALUED: Final = {
    "method": ("-X", "--request"),
    "header": ("-H", "--header"),
    **{f"data{number}": (option,) for number, option in enumerate(_DATA)},
    "url": ("--url",),
    "ignored": (
        *("-o", "--output", "-A", "--user-agent", "-e", "--referer", "-m", "--max-time", "--connect-timeout"),
        *("-w", "--write-out", "-b", "--cookie", "--retry", "--retry-delay", "--cacert"),
    ),
}
_FLAGS: Final = (
    *("-s", "-S", "-v", "-i", "-k", "-L", "-f", "-g", "-#", "-N"),
    *("--silent", "--show-error", "--verbose", "--include", "--insecure", "--location", "--fail", "--globoff"),
    *("--compressed", "--no-buffer", "--http1.1", "--http2", "--progress-bar", "--fail-with-body"),
)
_REQUESTS: Final[tuple[tuple[str, str, Operation], ...]] = tuple(
    (REQUESTS[kind].method, re.escape(REQUESTS[kind].path) + ("[^/]+" if kind in JOB_KINDS else ""), operation)
    for operation, kind in FIRST_KIND.items()
)
_SENT_ANYWAY: Final = {"content-type", "accept", "user-agent", "x-api-key", "x-wf-endpoint", "host", "content-length"}


@dataclass(frozen=True, slots=True)
class CurlRequest:
    """The request of a curl command."""

    operation: Operation
    url: str
    """The target's base URL."""
    workflow: str | None
    parameters: dict[str, Any]
    job_id: str | None
    endpoint: str | None
    key: str | None = field(repr=False)
    """The x-api-key, which must not be written anywhere."""
    dropped: list[str]
    """Names of headers that the harness will not send."""

    @property
    def loopback(self) -> bool:
        """Whether the host is loopback. The host name is not resolved."""
        return is_loopback(urlsplit(self.url).hostname or "")


_QUOTED: Final = re.compile(r"""\$'(?P<ansi>(?:[^'\\]|\\.)*)'|'[^']*'|"(?:[^"\\]|\\.)*"|\\.""", re.DOTALL)
"""Matches a quoted part of a shell command, or an escaped character. Quotes within quotes are not matched."""


def parse_curl(command: str) -> CurlRequest:
    """Parse a curl command. Raises ``InputError`` if the command is invalid, or does not call the API."""
    given = _options(_words(command)[1:])
    method = given["method"][-1].upper() if given["method"] else ""
    headers: dict[str, str] = {}
    for header in given["header"]:
        name, colon, content = header.partition(":")
        if not colon and not header.endswith(";"):  # -H 'Name;' is curl's form of a header without a value
            raise InputError("the curl command has a -H without a colon", "Use -H 'x-api-key: KEY'.")
        headers[name.strip().lower()] = content.strip()
    data = _data(given)
    urls = [*given["url"], *given["urls"]]
    if len(urls) > 1:
        raise InputError("the curl command has more than one URL", "Quote values that contain spaces.")
    base, path = _split_url("".join(urls))
    operation = _operation(method or ("POST" if data else "GET"), path)
    workflow, parameters = (None, {}) if operation in JOB_OPERATIONS else _body(data)
    endpoint = headers.get("x-wf-endpoint") or None
    if endpoint is not None and HEADER_SAFE.fullmatch(endpoint) is None:
        raise InputError("the curl command's x-wf-endpoint cannot be sent in a header", "Remove the spaces.")
    return CurlRequest(
        operation=operation,
        url=base,
        workflow=workflow,
        parameters=parameters,
        job_id=path.rsplit("/", 1)[1] if operation in JOB_OPERATIONS else None,
        endpoint=endpoint,
        key=headers.get("x-api-key") or None,
        dropped=sorted(name for name in set(headers) - _SENT_ANYWAY if re.fullmatch(r"[a-z0-9-]{1,40}", name)),
    )


def _words(command: str) -> list[str]:
    # A shell joins lines that end in a backslash.
    joined = re.sub(r"\\\r?\n", " ", command)
    try:
        words = shlex.split(_QUOTED.sub(_plain_quotes, joined))
    except ValueError:
        raise InputError("the curl command has an unclosed quote", "Copy the whole command.") from None
    if not words or words[0] != "curl":
        raise InputError("the command does not begin with curl", "Use --from-curl 'curl -X POST …'.")
    return words


def _plain_quotes(quoted: re.Match[str]) -> str:
    """Convert bash's ``$'…'``, which shlex does not know, to plain quotes. Browsers copy commands in this form."""
    inside = quoted["ansi"]
    if inside is None:
        return quoted[0]
    return shlex.quote(re.sub(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", _unescape, inside, flags=re.DOTALL))


def _unescape(escape: re.Match[str]) -> str:
    letter = escape[1]
    if len(letter) > 1:
        return chr(int(letter[1:], 16))
    return {"n": "\n", "r": "\r", "t": "\t"}.get(letter, letter)


def _options(words: list[str]) -> dict[str, Sequence[str]]:
    """Return the values of each option in ``_VALUED``. Words that belong to no option are ``urls``."""
    valued = [click.Option([name, *spelled], multiple=True) for name, spelled in _VALUED.items()]
    flags = click.Option(["flags", *_FLAGS], count=True)
    curl = click.Command("curl", params=[*valued, flags, click.Argument(["urls"], nargs=-1)], add_help_option=False)
    try:
        return curl.make_context("curl", words).params
    except click.NoSuchOption as error:
        option = error.option_name
        shown = option if re.fullmatch(r"--[a-z][a-z0-9.-]{0,30}|-[A-Za-z#]", option) else "an option"
        raise InputError(f"the curl command has {shown}, which loadtest does not support", "Remove it.") from None
    except click.BadOptionUsage as error:
        if error.option_name in _FLAGS:
            unknown = f"the curl command has a value for {error.option_name}, which takes none"
            raise InputError(unknown, "Remove it.") from None
        raise InputError(f"the curl command ends after {error.option_name}", "Copy the whole command.") from None


def _data(given: dict[str, Sequence[str]]) -> str:
    found = [(option, value) for number, option in enumerate(_DATA) for value in given[f"data{number}"] if value]
    for option, value in found:
        if value.startswith("@") and option != "--data-raw":
            raise InputError("the curl command takes its data from a file", f"Put the JSON itself after {option}.")
    if len(found) > 1:
        raise InputError("the curl command has data more than once", "Put all of the JSON after one -d.")
    return found[0][1] if found else ""


def _split_url(url: str) -> tuple[str, str]:
    if not url:
        raise InputError("the curl command has no URL", "Use curl -X POST http://127.0.0.1:8000/v1/workflows/run …")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or "@" in parts.netloc:
        raise InputError("the curl command's URL is invalid, or contains a password", "Use http://127.0.0.1:8000/v1/…")
    if parts.query or parts.fragment:
        raise InputError("the curl command's URL has a query, which the API does not have", "Remove it.")
    prefix, mark, rest = parts.path.partition("/v1/")
    base = f"{parts.scheme}://{parts.netloc}{prefix}"
    server_of(base)
    return base, f"/v1/{rest}" if mark else ""


def _operation(method: str, path: str) -> Operation:
    for wanted, pattern, operation in _REQUESTS:
        if re.fullmatch(pattern, path.rstrip("/")) and method == wanted:
            return operation
    raise InputError(
        "the curl command is not a request of the API",
        "Requests are POST /v1/workflows/run, POST /v1/workflows/jobs and GET /v1/workflows/jobs/JOB-ID.",
    )


def _body(data: str) -> tuple[str, dict[str, Any]]:
    def refuse(_: str) -> None:
        raise ValueError("NaN")

    try:
        body = json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise InputError("the curl command's data is not JSON", 'Use -d \'{"name": "say-hello"}\'.') from None
    name = body.get("name") if isinstance(body, dict) else None
    parameters = (body.get("parameters") or {}) if isinstance(body, dict) else None
    if not isinstance(name, str) or not isinstance(parameters, dict):
        raise InputError(
            "the curl command's data does not run a workflow",
            'Use -d \'{"name": "say-hello", "parameters": {"name": "Ada"}}\'.',
        )
    return name, parameters
