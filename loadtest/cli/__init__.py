"""The command line. A verb's module is imported only when the verb is called, so that ``--help`` stays fast."""

import errno
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Annotated, Any, Final, Literal

import click
from click.exceptions import NoArgsIsHelpError

from loadtest.errors import ExitCode, InputError, LoadtestError
from loadtest.foreign_text import visible_output
from loadtest.program import command_line, complain, unknown_option
from loadtest.words import did_you_mean, not_valid

# The verbs in the order in which they are used, each with one line of help.
VERBS = {
    "init": "Write a first scenario, optionally from a curl command or a shipped scenario.",
    "validate": "Check scenario files, and list all errors at once.",
    "plan": "Forecast a scenario's load against the rate limits.",
    "preflight": "Check a target with at most five requests, before it is loaded.",
    "probe": "Measure which rate limits a service enforces.",
    "run": "Run a scenario: send its traffic, record it, and report a verdict.",
    "capacity": "Find the highest rate that meets the thresholds, and its bottleneck.",
    "advise": "Find the client policy that finishes its work soonest without 429s.",
    "compare": "Compare two versions of a service in pairs of blocks.",
    "worker": "Start a worker for a distributed run.",
    "report": "Recreate a run's report from its record.",
    "import": "Make a run from access logs or HAR files.",
    "export": "Export a run's samples as CSV or Parquet.",
    "slow": "List the slowest operations of a run.",
    "runs": "List runs, and delete old runs.",
    "regression": "Compare runs with a history of accepted runs.",
    "serve": "Serve the reference Workflow API on this machine.",
    "ui": "Run a scenario from Locust's web UI.",
    "metrics": "List the metrics that a threshold can name.",
    "scenarios": "List scenarios with their titles.",
}
# Verbs in modules with other names. Any other verb is the ``command`` of the module with its name.
_ELSEWHERE: Final = {
    **{verb: f"cli.recorded:{verb}" for verb in ("report", "export", "slow")},
    "import": "cli.import_:command",
    "serve": "reference_api.command:command",  # the reference API also runs without the harness
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = pkgutil.resolve_name(f"loadtest.{_ELSEWHERE.get(cmd_name, f'cli.{cmd_name}:command')}")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise InputError(f"there is no verb {args[0]!r}", did_you_mean(args[0], VERBS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="RUN is a run directory, a run's id, or 'latest'. Exit codes: 0 pass, 1 threshold failed, 2 bad "
    "input, 3 invalid, 4 regressed, 5 target unreachable, 6 inconclusive, 7 aborted, 70 internal, 130 interrupted.",
)
@click.version_option(package_name="workflow-loadtest", prog_name="loadtest")
def app() -> None:
    """Load-test a rate-limited Workflow API and judge the result."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code (see ``ExitCode``). Errors go to stderr; only a bug has a traceback."""
    with visible_output():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(arguments: list[str]) -> int:
    try:
        result = app.main(arguments, prog_name="loadtest", standalone_mode=False)
        sys.stdout.flush()
    except LoadtestError as error:
        complain(error)
        return int(error.exit_code)
    except NoArgsIsHelpError as error:
        error.show()
        return int(ExitCode.USAGE)
    except click.UsageError as error:
        complain(_wrong_usage(error, arguments))
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return int(ExitCode.INTERRUPTED)
    except (BrokenPipeError, SystemExit):
        # The program that read our output ended (`loadtest ... | head`). click would exit with 1, but 0 and 1 are
        # verdicts.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.INTERRUPTED)
    except OSError as error:
        if (remedy := _FULL.get(error.errno or 0)) is None:
            return _bug()
        named = f" ({error.filename})" if error.filename else ""
        complain(f"{os.strerror(error.errno or 0)}{named}\n  {remedy}")
        return int(ExitCode.USAGE)
    except Exception:  # noqa: BLE001 - any other exception is our bug, and Python's exit code 1 would be a verdict
        return _bug()
    return result if isinstance(result, int) else int(ExitCode.PASS)


def _wrong_usage(error: click.UsageError, arguments: Sequence[str]) -> InputError:
    ctx = error.ctx
    path = ctx.command_path if ctx else command_line(*[each for each in arguments[:1] if each in VERBS])
    if isinstance(error, click.NoSuchOption):
        options = [each for each in ctx.command.params if isinstance(each, click.Option)] if ctx else []
        known = [text for each in options for text in (*each.opts, *each.secondary_opts)]
        return unknown_option(error.option_name, known, path, arguments)
    if isinstance(error, click.BadOptionUsage):
        need = "takes no" if "not take" in error.format_message() else "needs a"
        return InputError(f"{error.option_name} {need} value", f"See `{path} --help`.")
    message = error.format_message()
    message = message[:1].lower() + message[1:].rstrip(".")
    if isinstance(error, click.BadParameter) and error.param is not None and error.message:
        value, annotation = error.message.partition(" is not ")[0].strip("'"), _annotation(error.param.type)
        problem = error.message.rstrip(".") if annotation is None else not_valid(value, annotation)
        message = f"{error.param.opts[0]}: {problem}"
    return InputError(message, f"See `{path} --help`.")


def _annotation(kind: click.ParamType[Any]) -> Any:
    """Return the type and bounds of an option's value for ``not_valid``. None if ``not_valid`` has no words for it."""
    if isinstance(kind, click.Choice):
        return Literal[tuple(kind.choices)]
    if isinstance(kind, click.IntRange | click.FloatRange):
        bounds = SimpleNamespace(le=kind.max, **{"gt" if kind.min_open else "ge": kind.min})
        return Annotated[int if isinstance(kind, click.IntRange) else float, bounds]
    return {click.INT: int, click.FLOAT: float}.get(kind)


_FULL: Final = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EROFS), "Free some space, or use another --output-dir."),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Raise the limit of open files (ulimit -n)."),
}
"""Remedies for errors that are not bugs: a resource of the machine is exhausted, or a disk cannot be written."""


def _bug() -> int:
    traceback.print_exc()
    complain("this is a bug in loadtest; please report it with the lines above")
    return int(ExitCode.BUG)
