"""The test that plain Locust starts: the scenario in force, its target, its users, and the reports of its runs.

Three options on Locust's command line are ours. What Locust knows by its name and would do otherwise here, or not at
all, is refused in a sentence that says where the scenario says it. It may stand on the command line, in Locust's
variables or in a configuration file.
"""

import argparse
import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import gevent
import locust
from locust.argument_parser import get_parser
from locust.env import Environment

from loadtest.credentials import ENDPOINT_VARIABLE, credentials
from loadtest.errors import InputError
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import user_classes
from loadtest.plan import traffic_plans
from loadtest.prepare import assumed_limits_of, check_before_run, prepare_run
from loadtest.processes import check_free, make_report
from loadtest.record.run_directory import pending_note
from loadtest.record.run_info import PreflightRequest
from loadtest.scenario import LoadedScenario, find_scenario, load_scenario, only
from loadtest.targets import ChosenTarget, allow, choose, confirm, look
from loadtest.words import suggestion

logger = logging.getLogger(__name__)
_POOL: Final = (
    "the users are a pool of the scenario's, and all start at once. How much load there is, the stages say (rate, "
    "ramp_to); max_users of a traffic entry bounds its users"
)
_TASKS: Final = "traffic entries have no tags. Name those that are to run instead, as in `locust greetings`"

REFUSED: Final[dict[str, tuple[str, str]]] = {
    "num_users": ("-u/--users", _POOL),
    "spawn_rate": ("-r/--spawn-rate", _POOL),
    "run_time": ("-t/--run-time", "a run is as long as the scenario's stages: set their duration"),
    "stop_timeout": ("-s/--stop-timeout", "what is in flight at the end may take as long as the scenario's drain"),
    "tags": ("-T/--tags", _TASKS),
    "exclude_tags": ("-E/--exclude-tags", _TASKS),
    "config_users": ("--config-users", "what users do is written in the scenario, below [traffic.NAME]"),
    "equal_weights": ("--equal-weights", _POOL),
    "class_picker": ("--class-picker", "the scenario's traffic runs together. Name entries, as in `locust greetings`"),
    "exit_code_on_error": ("--exit-code-on-error", "the exit code is the verdict's: see `loadtest run --help`"),
    "web_login": ("--web-login", "the web UI has no accounts: it serves this machine alone"),
}
"""Options that are refused where they are not at their default: how they are spelled, and why."""

_TUNNEL: Final = (
    "Keep 127.0.0.1, and come by an SSH tunnel (`ssh -L 8089:127.0.0.1:8089 HOST`) or a reverse proxy on this machine "
    "that knows its users and sends `Host: 127.0.0.1`."
)
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def parse_command_line(seed: int, rate_multiplier: float) -> argparse.Namespace:
    """What Locust is told by its command line, its variables and its configuration files, with our options.

    Locust reads it a second time, after the locustfile was imported. What it does not know is left for it to refuse.

    Raises:
        InputError: if something is refused.
    """

    def add_options(parser: Any, **_: Any) -> None:
        # On the parser itself, not in a group: these are fields of the web UI's form.
        parser.add_argument("--seed", type=int, default=seed, help="in place of the scenario's")
        parser.add_argument(
            "--rate-multiplier", type=float, default=rate_multiplier, help="every rate and burst times this"
        )

        parser.add_argument(
            "--metrics-port",
            type=int,
            metavar="PORT",
            include_in_web_ui=False,  # which has /metrics of its own
            help="serve the run's figures for Prometheus at http://127.0.0.1:PORT/metrics",
        )

    locust.events.init_command_line_parser.add_listener(add_options)
    parser = get_parser()
    options: argparse.Namespace = parser.parse_known_args()[0]
    if not options.worker:
        _refuse(options, {name: parser.get_default(name) for name in REFUSED})
        if options.metrics_port is not None:
            check_free(options.metrics_port, "--metrics-port")
    return options


def _refuse(options: argparse.Namespace, defaults: dict[str, Any]) -> None:
    for name, (spelled, why) in REFUSED.items():
        # A default may be the text of a number.
        if str(getattr(options, name)) != str(defaults[name]):
            raise InputError(f"{spelled} is refused: {why}.")
    if not options.headless and options.web_host not in _LOOPBACK:
        where = options.web_host or "every address of this machine"
        raise InputError(f"--web-host: the web UI is not served to {where}: whoever reaches it can start load", _TUNNEL)


def read_seed(text: str) -> int:
    """Read a seed of the form; raises ``InputError`` if it is none."""
    if not text.strip().isdecimal() or int(text) >= 2**63:
        raise InputError(f"Seed: {text!r} is no whole number from 0 to 2⁶³ − 1", "")
    return int(text)


def read_multiplier(text: str) -> float:
    """Read a rate multiplier of the form; raises ``InputError`` if it is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1000:
        raise InputError(f"Rate multiplier: {text!r} is no number above 0 and at most 1000", "")
    return value


class LocustTest:
    """What the next start of a test will run; made from the environment and from Locust's command line.

    Raises:
        InputError: if something there cannot be used, or Locust's command line says what is refused.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._path = find_scenario(environ.get("LOADTEST_SCENARIO", "tour"))
        self.loaded: LoadedScenario = load_scenario(self._path)
        scenario = self.loaded.scenario
        self._own_multiplier = scenario.rate_multiplier
        self.options: argparse.Namespace = parse_command_line(scenario.seed, scenario.rate_multiplier)
        self.keys, self.endpoint = credentials(environ)
        self.chosen = _choose(environ)
        if self.chosen is not None and self.chosen.entry is not None and self.chosen.entry.endpoint is not None:
            self.endpoint = self.chosen.entry.endpoint
        self.output_dir = Path(environ.get("LOADTEST_OUTPUT_DIR", "reports"))
        self.embedded = environ.get("LOADTEST_EMBEDDED") == "1"
        # The embedded target was made for this; what is left to ask is whether it is still there.
        self.preflight = not self.embedded and environ.get("LOADTEST_PREFLIGHT", "1") != "0"
        self._target_version = environ.get("LOADTEST_TARGET_VERSION", "")
        self._sent: list[PreflightRequest] = []
        self._names = list(dict.fromkeys(self.options.user_classes))
        for name in self._names:
            if name not in scenario.traffic:
                known = suggestion(name, list(scenario.traffic))
                raise InputError(f"{self._path}: there is no traffic {name!r}{known}")
        self.user_classes: list[type[locust.User]] = []
        self.set(self.options.seed, self.options.rate_multiplier)

    def set(self, seed: int, rate_multiplier: float) -> None:
        """Take another seed and rate multiplier for the next run, as ``loadtest run`` does with --seed and --set.

        Raises:
            InputError: if the scenario cannot be run so.
        """
        overrides = [f"rate_multiplier={json.dumps(float(rate_multiplier))}"]
        changed = rate_multiplier != self._own_multiplier
        loaded = load_scenario(self._path, overrides if changed else (), seed)
        if self._names:
            loaded = only(loaded, self._names)
        limits = assumed_limits_of(loaded, self.chosen, embedded=self.embedded)
        plans = traffic_plans(loaded.scenario, limits, len(self.keys))
        if not self.user_classes:
            self.user_classes = user_classes(loaded.scenario, plans, self._path.parent)
        for each in self.user_classes:
            each.fixed_count = plans[each.__name__].users
        self.loaded, self.plans = loaded, plans

    def set_from(self, form: Mapping[str, str]) -> None:
        """Take the web UI's form for the next run, and look at its target; raises ``LoadtestError`` where it fails."""
        before = self.loaded.scenario
        seed, multiplier = form.get("seed"), form.get("rate_multiplier")
        url = form.get("host", self.url)
        self.check(url)
        self.set(
            before.seed if seed is None else read_seed(seed),
            before.rate_multiplier if multiplier is None else read_multiplier(multiplier),
        )
        self.look(url)

    @property
    def users(self) -> int:
        return sum(plan.users for plan in self.plans.values())

    @property
    def url(self) -> str:
        return self.options.host or "" if self.chosen is None else self.chosen.target.url

    def check(self, url: str) -> ChosenTarget:
        """The target at a URL; raises ``InputError`` if it may not be loaded here and now."""
        if self.chosen is None:
            return ChosenTarget(allow(url))
        if url.rstrip("/") != self.chosen.target.url:
            raise InputError(f"{url!r} is not the target {self.chosen.name!r}", f"Load {self.chosen.target.url}.")
        return self.chosen

    def look(self, url: str) -> None:
        chosen = self.check(url)
        check_before_run(self.loaded, chosen, keys=len(self.keys), preflight=self.preflight)
        environment = {**os.environ, ENDPOINT_VARIABLE: self.endpoint}
        self._sent = look(chosen, self.loaded.effective, environment, preflight=self.preflight).sent

    def make_session(self, environment: Environment) -> Session:
        """Begin a run in a directory of its own; raises ``LoadtestError`` if it cannot be begun."""
        target = self.check(environment.host or "").target
        sent, self._sent = self._sent, []
        directory, info = prepare_run(
            self.loaded,
            url=target.url,
            embedded=self.embedded,
            keys=len(self.keys),
            command=["locust", *self._names],
            output_dir=self.output_dir,
            chosen=self.chosen,
            preflight=sent,
            target_version=self._target_version,
        )
        endpoint = make_endpoint(info, self.keys, self.endpoint, target)
        return Session(environment, directory, info, self.loaded.scenario, endpoint, base=self._path.parent)


def _choose(environ: Mapping[str, str]) -> ChosenTarget | None:
    """The target that LOADTEST_TARGET names; None where --host names it, which must be loopback then."""
    name, path = environ.get("LOADTEST_TARGET"), environ.get("LOADTEST_TARGETS")
    if not name:
        return None
    chosen = choose(None, name, Path(path) if path else None)
    confirm(chosen, yes=environ.get("LOADTEST_YES") == "1")
    return chosen


@dataclass(slots=True)
class StartedRun:
    """A run that was started here.

    Attributes:
        rate_multiplier: by which all its rates were multiplied.
        state: how far it is.
        exit_code: the verdict's, once it is reported.
    """

    directory: Path
    title: str
    seed: int
    rate_multiplier: float
    state: Literal["running", "reporting", "reported"] = "running"
    exit_code: int | None = None

    @property
    def report(self) -> Path | None:
        path = self.directory / "report.html"
        return path if self.state == "reported" and path.is_file() else None


class Reports:
    """Has a report made of each run when it is over."""

    def __init__(self, *, plots: bool) -> None:
        self.runs: list[StartedRun] = []
        """Oldest first."""
        self._plots = plots
        self._last: gevent.Greenlet | None = None

    def begin(self, session: Session) -> None:
        scenario = session.scenario
        self.runs.append(StartedRun(session.directory, scenario.title, scenario.seed, scenario.rate_multiplier))

    def end(self) -> None:
        """Have the report of the newest run made, after those that are being made."""
        run = self.runs[-1]
        run.state = "reporting"
        self._last = gevent.spawn(self._make, run, self._last)

    def finish(self) -> int | None:
        """Wait for all reports. Returns the exit code of the newest run's verdict; None without a run."""
        if self._last is not None:
            self._last.join()
        return self.runs[-1].exit_code if self.runs else None

    def _make(self, run: StartedRun, before: gevent.Greenlet | None) -> None:
        if before is not None:
            before.join()
        run.exit_code = make_report(run.directory, plots=self._plots, apart=True)
        if note := pending_note(run.directory):
            print(note, flush=True)
        run.state = "reported"
        logger.info("The report is %s", run.directory / "report.html")
