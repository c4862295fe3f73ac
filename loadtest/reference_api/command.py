"""The command that starts the server: ``loadtest serve``, or ``python -m loadtest.reference_api``.

Its options are the settings in ``loadtest.reference_settings``, and ``--exit-with-parent``. A parent process reads the
URLs from the first lines of standard output, so these lines must keep their format.
"""

import math
import sys
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin

import click

from loadtest.contract import ALL, ERROR_CODES, LIMIT_NAMES
from loadtest.credentials import LOCAL_KEY, api_keys, workflow_endpoint
from loadtest.errors import InputError, WrongValueError
from loadtest.faults import parse, to_words
from loadtest.processes import is_loopback
from loadtest.reference_settings import Recode, ServerConfig, Setting, settings_of
from loadtest.units import Limit, parse_limit
from loadtest.words import nearest

_Read = TypeVar("_Read")


class _Number(click.FloatRange):
    """A number option that rejects ``nan``. The option's bounds would accept it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def _option(setting: Setting) -> click.Option:
    about, default, names = setting.about, setting.default, [setting.option, setting.name]
    help_text = about.meaning.removesuffix(".") + (", in seconds." if about.seconds else ".")
    if about.form:
        return click.Option(names, multiple=True, metavar=about.form, help=f"{help_text} Repeatable.")
    if setting.type is bool:
        return click.Option(names, is_flag=True, help=help_text)
    return click.Option(names, type=_type(setting), default=default, show_default=default is not None, help=help_text)


def _type(setting: Setting) -> Any:
    kind, least, most = setting.type, setting.about.least, setting.about.most
    if get_origin(kind) is Literal:
        return click.Choice(list(get_args(kind)))
    if kind is float:
        return _Number(least, most)
    low, high = (None if bound is None else int(bound) for bound in (least, most))
    return str if kind is str else click.IntRange(low, high)


@click.command("serve", params=[_option(setting) for setting in settings_of(ServerConfig)])
@click.option("--exit-with-parent", is_flag=True, help="Stop when standard input ends.")
def command(exit_with_parent: bool, **options: Any) -> None:
    """Serve the reference Workflow API on this machine.

    The environment gives the API keys (WORKFLOW_API_KEYS, separated by commas) and the endpoint (WORKFLOW_ENDPOINT).
    Without keys, the public default key is valid. Without an endpoint, any endpoint is valid.
    """
    from loadtest.reference_api.server import serve  # noqa: PLC0415 -- help and usage errors must not wait for uvicorn

    config = server_config(keys=api_keys(), endpoint=workflow_endpoint(), **options)
    serve(config, lambda url, control: _announce(url, control, config), exit_with_parent=exit_with_parent)


def server_config(**options: Any) -> ServerConfig:
    """Make a server's config from the values of its options. Raise ``InputError`` if they are invalid or conflict."""
    # The server has no protection against requests from other machines.
    if not is_loopback(host := options["host"]):
        raise InputError(f"--host {host}: the reference server listens on loopback only", "Use 127.0.0.1 or ::1.")
    options["enforce"] = dict(_read("--limit", text, _limit) for text in options["enforce"])
    options["answers"] = dict(_read("--answer", text, _answer) for text in options["answers"])
    options["fault"] = tuple(_read("--fault", text, parse) for text in options["fault"])
    try:
        return ServerConfig(**options)
    except WrongValueError as error:
        (option,) = [each.option for each in settings_of(ServerConfig) if each.name == error.key]
        raise InputError(f"{option} {error.value}".rstrip() + f": {error.problem}", error.remedy) from None


def _read(option: str, text: str, read: Callable[[str], _Read]) -> _Read:
    try:
        return read(text)
    except InputError as error:
        raise InputError(f"{option} {text}: {error.message}", error.remedy) from None


def _limit(text: str) -> tuple[str, Limit]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if name not in (*LIMIT_NAMES, ALL) or not equals:
        near = nearest(name, LIMIT_NAMES, cutoff=0.4)
        hint = f"Did you mean {near}? " if near and name not in LIMIT_NAMES else ""
        remedy = f"{hint}Write NAME=COUNT/WINDOW; NAME is one of {', '.join((*LIMIT_NAMES, ALL))}."
        raise InputError("this sets no limit of the API", remedy)
    try:
        return name, parse_limit(value)
    except ValueError as error:
        raise InputError(str(error)) from None


def _answer(text: str) -> tuple[str, Recode]:
    code, _, written = text.partition("=")
    try:
        recode = Recode.parse(written)
    except ValueError:
        remedy = "Write CODE=STATUS, CODE=/NEWCODE or CODE=STATUS/NEWCODE, such as queue_full=429."
        raise InputError("this is not a replacement status or code", remedy) from None
    if code not in ERROR_CODES:
        near = nearest(code, ERROR_CODES)
        remedy = f"Did you mean {near}?" if near else f"Write one of {', '.join(ERROR_CODES)}."
        raise InputError(f"no error has the code {code}", remedy)
    return code, recode


def _announce(url: str, control: str | None, config: ServerConfig) -> None:
    keys = f"{len(config.keys)} from WORKFLOW_API_KEYS"
    if config.keys == (LOCAL_KEY,):
        keys = f"{LOCAL_KEY} (public; set WORKFLOW_API_KEYS for your own keys)"
    lines = [
        f"Workflow API (reference) on {url}",
        f"  {_limits(config)}",
        *([f"  faults: {'; '.join(map(to_words, config.fault))}"] if config.fault else []),
        *([f"  control on {control}"] if control else []),
        f"  API keys: {keys}",
        f"  endpoint: {'as in WORKFLOW_ENDPOINT' if config.endpoint else 'any (WORKFLOW_ENDPOINT is not set)'}",
        "  stop with Ctrl-C or SIGTERM",
    ]
    # All lines are written at once. A reader may close the pipe after the first line, and a second write would fail.
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _limits(config: ServerConfig) -> str:
    whose = "limits shared by all keys" if config.limit_scope in ("name", "global") else "limits per key"
    limits = [f"{name} {limit}" for name, limit in config.limits.items()]
    if ALL in config.enforce:
        limits = [f"{config.enforce[ALL]} in all"]
    notes = (
        (f", burst {config.burst}", config.burst),
        (", counting rejected requests", config.count_rejected),
        (f", windows begin {config.phase:g} s after multiples of their length", config.phase),
        (", rounding down", config.round_down),
        (", valid requests only", config.draws == "valid"),
    )
    return f"{whose}: {', '.join(limits)}, {config.algorithm}" + "".join(text for text, applies in notes if applies)
