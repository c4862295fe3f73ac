"""The test that plain Locust starts: the scenario in force, its target, and the pool of users that it needs."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

import locust
from locust.env import Environment

from loadtest.credentials import ENDPOINT_VARIABLE, credentials
from loadtest.errors import InputError
from loadtest.load.plain.options import parse_command_line, read_multiplier, read_seed
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import user_classes
from loadtest.plan import traffic_plans
from loadtest.prepare import assumed_limits_of, check_before_run, prepare_run
from loadtest.record.run_info import PreflightRequest
from loadtest.scenario import find_scenario, load_scenario
from loadtest.scenario.parse import LoadedScenario, only
from loadtest.strict import nearest
from loadtest.targets import ChosenTarget, allow, choose, confirm
from loadtest.targets.look import look


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
        self._names = self._traffic_names(self.options.user_classes)
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
        """Take what the web UI's form says of the next run, and look at its target.

        Raises:
            LoadtestError: why it cannot be started so.
        """
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
        """The size of the pool."""
        return sum(plan.users for plan in self.plans.values())

    @property
    def url(self) -> str:
        """The target's URL, as far as the command line says it."""
        return self.options.host or "" if self.chosen is None else self.chosen.target.url

    def check(self, url: str) -> ChosenTarget:
        """The target at a URL, if it may be loaded here and now.

        Raises:
            InputError: if not.
        """
        if self.chosen is None:
            return ChosenTarget(allow(url))
        if url.rstrip("/") != self.chosen.target.url:
            raise InputError(f"{url!r} is not the target {self.chosen.name!r}", f"Load {self.chosen.target.url}.")
        return self.chosen

    def look(self, url: str) -> None:
        """Look whether a target can be loaded now, before a run.

        Raises:
            LoadtestError: why not.
        """
        chosen = self.check(url)
        check_before_run(self.loaded, chosen, keys=len(self.keys), preflight=self.preflight)
        environment = {**os.environ, ENDPOINT_VARIABLE: self.endpoint}
        self._sent = look(chosen, self.loaded.effective, environment, preflight=self.preflight).sent

    def make_session(self, environment: Environment) -> Session:
        """What the engine needs for a run, with a directory of its own.

        Raises:
            LoadtestError: if it cannot be begun.
        """
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
        endpoint = make_endpoint(target, self.keys, self.endpoint, info)
        return Session(environment, directory, info, self.loaded.scenario, endpoint, base=self._path.parent)

    def _traffic_names(self, names: list[str]) -> list[str]:
        known = list(self.loaded.scenario.traffic)
        for name in names:
            if name not in known:
                raise InputError(f"{self._path}: there is no traffic {name!r}{nearest(name, known)}")
        return list(dict.fromkeys(names))


def _choose(environ: Mapping[str, str]) -> ChosenTarget | None:
    """The target that LOADTEST_TARGET names; None where --host names it, which must be loopback then."""
    name, path = environ.get("LOADTEST_TARGET"), environ.get("LOADTEST_TARGETS")
    if not name:
        return None
    chosen = choose(None, name, Path(path) if path else None)
    confirm(chosen, yes=environ.get("LOADTEST_YES") == "1")
    return chosen
