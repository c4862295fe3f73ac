"""The scenario, target, users and reports of the runs that plain Locust starts.

Four options are added to Locust's command line. Options of Locust that the scenario replaces are rejected, even if
environment variables or a configuration file set them. The message gives the reason.
"""

import argparse
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, Literal

import gevent
import locust
from locust.argument_parser import get_parser
from locust.env import Environment

from loadtest.credentials import ENDPOINT_VARIABLE, credentials
from loadtest.errors import InputError
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import user_classes
from loadtest.plan import contradictions, forecast, spoilt_by_duration
from loadtest.prepare import check_before_run, differing_limits, prepare_run, question_of, shortened
from loadtest.processes import LOOPBACK_NAMES, check_free, make_report
from loadtest.program import pasteable, unknown_option
from loadtest.record.run_directory import pending_note
from loadtest.record.run_info import PreflightRequest
from loadtest.scenario import LoadedScenario, Scenario, find_scenario, load_scenario, only
from loadtest.targets import ChosenTarget, NamedEntry, allow, choose, confirm, look
from loadtest.units import parse_duration
from loadtest.words import joined, suggestion

logger = logging.getLogger("loadtest")
_POOL: Final = (
    "the scenario's stages set the load, and all users start at once. Use --rate-multiplier X, or the "
    "option --set traffic.NAME.stages.STAGE.rate=… of `loadtest run`; max_users of a traffic entry bounds its users"
)
_TASKS: Final = "traffic entries have no tags. To select entries, name them, as in `locust greetings`"

REFUSED: Final[dict[str, tuple[str, str]]] = {
    "num_users": ("-u/--users", _POOL),
    "spawn_rate": ("-r/--spawn-rate", _POOL),
    "stop_timeout": ("-s/--stop-timeout", "the scenario's drain limits the time of operations in flight at the end"),
    "tags": ("-T/--tags", _TASKS),
    "exclude_tags": ("-E/--exclude-tags", _TASKS),
    "config_users": ("--config-users", "the scenario's [traffic.NAME] tables configure users"),
    "equal_weights": ("--equal-weights", _POOL),
    "class_picker": ("--class-picker", "the scenario's traffic runs together. Name entries, as in `locust greetings`"),
    "exit_code_on_error": ("--exit-code-on-error", "the verdict sets the exit code: see `loadtest run --help`"),
    "web_login": ("--web-login", "the web UI has no accounts and serves this machine alone"),
}
"""Options of Locust that must keep their defaults. Keys are argparse destinations. Values are spelling and reason."""

_TUNNEL: Final = (
    "Use --web-host 127.0.0.1. From elsewhere, connect through an SSH tunnel (`ssh -L 8089:127.0.0.1:8089 HOST`), or "
    "through a reverse proxy on this machine that authenticates its users and sends `Host: 127.0.0.1` and no `Origin`."
)


_ABOUT: Final = {
    "seed": "replaces the scenario's seed",
    "rate_multiplier": "multiplies all rates and bursts",
    "duration": "scales the stages so that the longest traffic entry lasts this long, such as 30s",
}


def add_options(parser: Any, own: Mapping[str, str]) -> None:
    """Add our options to Locust's parser, with the scenario's values as defaults."""
    # --duration takes over the spellings of Locust's --run-time, which would end a run before its schedule ends.
    parser._optionals.conflict_handler = "resolve"  # noqa: SLF001 - argparse keeps its own copy of the handler
    for name, about in _ABOUT.items():
        also = ("-t", "--run-time") if name == "duration" else ()
        variable = {"env_var": "LOCUST_RUN_TIME"} if also else {}
        # Only arguments outside groups become fields of the web UI's form.
        parser.add_argument(
            f"--{name.replace('_', '-')}", *also, metavar="VALUE", default=own.get(name), help=about, **variable
        )
    parser.set_defaults(run_time=None)
    parser.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        include_in_web_ui=False,  # the web UI serves /metrics itself
        help="serve live metrics for Prometheus at http://127.0.0.1:PORT/metrics",
    )


def parse_command_line(own: Mapping[str, str]) -> argparse.Namespace:
    """Return Locust's options and ours, from the command line, environment variables and configuration files.

    Locust parses them again after importing the locustfile. ``InputError`` names an unknown or rejected option.
    """
    locust.events.init_command_line_parser.add_listener(lambda parser, **_: add_options(parser, own))
    parser = get_parser()
    options: argparse.Namespace
    options, unknown = parser.parse_known_args()
    for word in unknown:
        if word.startswith("-"):
            known = [text for action in parser._actions for text in action.option_strings]  # noqa: SLF001 - no other way
            raise unknown_option(word.partition("=")[0], known, "locust")
    if options.worker:
        return options
    # Values are compared as texts, because a default may be the text of a number.
    given = [about for name, about in REFUSED.items() if str(getattr(options, name)) != str(parser.get_default(name))]
    if given:
        lines = [f"{joined([each for each, other in given if other == why])}: {why}." for _, why in given]
        raise InputError("not supported: " + "\n  ".join(dict.fromkeys(lines)))
    if not options.headless and options.web_host not in LOOPBACK_NAMES:
        where = options.web_host or "all addresses of this machine"
        raise InputError(f"--web-host: the web UI cannot be served to {where}, because it can start load", _TUNNEL)
    if options.metrics_port is not None:
        check_free(options.metrics_port, "--metrics-port")
    return options


class LocustTest:
    """Settings of the next run, from the environment and Locust's command line. Bad values raise InputError."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._path = find_scenario(environ.get("LOADTEST_SCENARIO", "tour"))
        self.loaded: LoadedScenario = load_scenario(self._path)
        scenario = self.loaded.scenario
        self._own = {
            "seed": str(scenario.seed),
            "rate_multiplier": f"{scenario.rate_multiplier:g}",
            "duration": f"{scenario.duration:.10g}s",
        }
        """Values of the scenario as text. Options and form fields of the same names may replace them."""
        self.options: argparse.Namespace = parse_command_line(self._own)
        self.keys, self.endpoint = credentials(environ)
        self.chosen = _choose(environ)
        if self.chosen is not None and self.chosen.entry is not None and self.chosen.entry.endpoint is not None:
            self.endpoint = self.chosen.entry.endpoint
        self.output_dir = Path(environ.get("LOADTEST_OUTPUT_DIR", "reports"))
        self.embedded = environ.get("LOADTEST_EMBEDDED") == "1"
        self._named = None if self.embedded else self.chosen or NamedEntry()
        # An embedded target was started for these runs and needs no preflight.
        self.preflight = not self.embedded and environ.get("LOADTEST_PREFLIGHT", "1") != "0"
        self._target_version = environ.get("LOADTEST_TARGET_VERSION", "")
        self._sent: list[PreflightRequest] = []
        self._names = list(dict.fromkeys(self.options.user_classes))
        for name in self._names:
            if name not in scenario.traffic:
                known = suggestion(name, list(scenario.traffic))
                raise InputError(f"{self._path}: there is no traffic {name!r}{known}")
        self.user_classes: list[type[locust.User]] = []
        self._values = self._own
        self.set({name: getattr(self.options, name) for name in self._own})

    def set(self, values: Mapping[str, str]) -> None:
        """Change the scenario of the next run, as the options of ``loadtest run`` do.

        Values that are missing do not change. Warn of contradictions that a changed duration causes. If the scenario is
        invalid with these values, ``InputError`` is raised.
        """
        values = {name: values.get(name, before) for name, before in self._values.items()}
        changed = {name: text for name, text in values.items() if text != self._own[name]}
        duration = changed.pop("duration", None)
        loaded = load_scenario(self._path, [f"{name}={text}" for name, text in changed.items()])
        if self._names:
            loaded = only(loaded, self._names)
        if duration is not None:
            try:
                seconds = parse_duration(duration)
            except ValueError as error:
                raise InputError(f"duration: {error}") from None
            loaded = shortened(loaded, seconds, self._named)
        question = question_of(loaded, self._named, keys=len(self.keys))
        if duration is not None:
            for warning in spoilt_by_duration(contradictions(question, forecast(question))):
                logger.warning("%s: %s. %s", loaded.place(warning.key), warning.message, warning.remedy)
        if not self.user_classes:
            self.user_classes = user_classes(loaded.scenario, question.plans, self._path.parent)
        for each in self.user_classes:
            each.fixed_count = question.plans[each.__name__].users
        self.loaded, self.plans, self._values = loaded, question.plans, values

    def set_from(self, form: Mapping[str, str]) -> None:
        """Set the next run from the web UI's form, and check its target. Raise ``LoadtestError`` if that fails."""
        url = form.get("host", self.url)
        self.check(url)
        self.set(form)
        self.look(url)

    @property
    def users(self) -> int:
        return sum(plan.users for plan in self.plans.values())

    @property
    def url(self) -> str:
        return self.options.host or "" if self.chosen is None else self.chosen.target.url

    def check(self, url: str) -> ChosenTarget:
        """Return the target at a URL. Raise ``InputError`` if this process must not load it."""
        if self.chosen is None:
            return ChosenTarget(target=allow(url))
        if url.rstrip("/") != self.chosen.target.url:
            raise InputError(f"{url!r} is not the target {self.chosen.name!r}", f"Use {self.chosen.target.url}.")
        return self.chosen

    def look(self, url: str) -> None:
        chosen = self.check(url)
        check_before_run(self.loaded, chosen, keys=len(self.keys), preflight=self.preflight)
        if not self.embedded and (differing := differing_limits(self.loaded, chosen)):
            logger.warning("%s", pasteable(differing))
        environment = {**os.environ, ENDPOINT_VARIABLE: self.endpoint}
        self._sent = look(chosen, self.loaded.effective, environment, preflight=self.preflight).sent

    def make_session(self, environment: Environment) -> Session:
        """Prepare a run in its own directory. Raise ``LoadtestError`` if that fails."""
        target = self.check(environment.host or "").target
        sent, self._sent = self._sent, []
        directory, info = prepare_run(
            self.loaded,
            url=target.url,
            keys=len(self.keys),
            command=["locust", *self._names],
            output_dir=self.output_dir,
            chosen=self._named,
            preflight=sent,
            target_version=self._target_version,
        )
        endpoint = make_endpoint(info, self.keys, self.endpoint, target)
        return Session(environment, directory, info, endpoint, base=self._path.parent)


def _choose(environ: Mapping[str, str]) -> ChosenTarget | None:
    """Return the target that LOADTEST_TARGET names. If it is unset, return None: --host names a loopback target."""
    name, path = environ.get("LOADTEST_TARGET"), environ.get("LOADTEST_TARGETS")
    if not name:
        return None
    chosen = choose(None, name, Path(path) if path else None)
    confirm(chosen, yes=environ.get("LOADTEST_YES") == "1")
    return chosen


@dataclass(slots=True)
class StartedRun:
    """A run of this process."""

    directory: Path
    scenario: Scenario
    state: Literal["running", "reporting", "reported"] = "running"
    exit_code: int | None = None
    """The verdict's exit code. None before the report is made."""

    @property
    def report(self) -> Path | None:
        path = self.directory / "report.html"
        return path if self.state == "reported" and path.is_file() else None


class Reports:
    """Creates the report of each run after its end, one report at a time.

    While ``kept`` is true, text for the terminal is kept until ``print_kept`` prints it.
    """

    def __init__(self, *, plots: bool) -> None:
        self.runs: list[StartedRun] = []
        self.kept = False
        self._words = ""
        self._plots = plots
        self._last: gevent.Greenlet | None = None

    def end(self) -> None:
        """Create the report of the newest run, after all earlier reports."""
        run = self.runs[-1]
        logger.info("The record is in %s", run.directory)
        run.state = "reporting"
        self._last = gevent.spawn(self._make, run, self._last)

    def finish(self) -> int | None:
        """Wait for all reports. Return the exit code of the newest run's verdict, or None without a run."""
        if self._last is not None:
            self._last.join()
        return self.runs[-1].exit_code if self.runs else None

    def print_kept(self) -> None:
        print(self._words, end="", flush=True)
        self._words = ""

    def _make(self, run: StartedRun, before: gevent.Greenlet | None) -> None:
        if before is not None:
            before.join()
        with TemporaryFile() as output:
            run.exit_code = make_report(run.directory, plots=self._plots, stdout=output)
            output.seek(0)
            note = pending_note(run.directory)
            self._words += output.read().decode() + (f"{note}\n" if note else "")
        if not self.kept:
            self.print_kept()
        run.state = "reported"
        logger.info("The report is %s", run.directory / "report.html")
