"""The target of a run: a running server, or a reference API that is embedded for the run."""

import os
import queue
import secrets
import subprocess
import sys
import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from loadtest.credentials import ENDPOINT_VARIABLE, KEYS_VARIABLE, api_keys, credentials
from loadtest.errors import InputError, TargetError
from loadtest.faults import CONTROL_VARIABLE, to_words
from loadtest.plan import Contradiction, Plan, make_plan, unknown_workflows
from loadtest.prepare import check_before_run, differing_limits, prepare_run, question_of, shortened
from loadtest.processes import start_child, stop
from loadtest.program import option_words, pasteable
from loadtest.record.run_info import Preflight, RunInfo
from loadtest.reference_settings import ReferenceSettings, to_options
from loadtest.scenario import LoadedScenario, at_rate, find_scenario, load_scenario
from loadtest.targets import ChosenTarget, NamedEntry, choose, confirm, entry_at, header_values, look, named_entry

_READY_TIMEOUT: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """A verb's options for its target. Without ``host`` and ``target``, the target is embedded."""

    host: str | None = None
    target: str | None = None
    targets: Path | None = None
    yes: bool = False
    no_preflight: bool = False

    @property
    def embedded(self) -> bool:
        return self.host is None and self.target is None

    def chosen(self) -> ChosenTarget | None:
        """Return the running target, or None for an embedded target. Raises ``InputError`` if it cannot be found."""
        return None if self.embedded else choose(self.host, self.target, self.targets)

    @property
    def of_target(self) -> dict[str, object]:
        """The options that choose the target, for ``command_line``."""
        return {"host": self.host, "target": self.target, "targets": self.targets}


@dataclass(frozen=True, kw_only=True)
class ScenarioOptions(TargetOptions):
    """A verb's options for its scenario and target."""

    scenario: str
    overrides: tuple[str, ...] = ()
    seed: int | None = None
    rate_multiplier: float | None = None
    duration: float | None = None

    @property
    def entry(self) -> NamedEntry | None:
        """The entry of ``target`` or ``host``; None for an embedded target. Host names are not resolved."""
        if self.target is not None:
            return named_entry(self.target, self.targets)
        return None if self.host is None else entry_at(self.host, self.targets)

    def load(self) -> LoadedScenario:
        """Load the scenario with its overrides, scaled to ``duration``. Raises ``InputError``."""
        multiplied = () if self.rate_multiplier is None else (f"rate_multiplier={self.rate_multiplier}",)
        loaded = load_scenario(find_scenario(self.scenario), (*self.overrides, *multiplied), self.seed)
        if self.duration is None:
            return loaded
        return shortened(loaded, self.duration, self.entry)


def plan_of(
    loaded: LoadedScenario,
    *,
    chosen: NamedEntry | None = None,
    keys: int | None = None,
    start: float | None = None,
    job_s: float | None = None,
    price: float | None = None,
) -> Plan:
    """Make the plan of a scenario for the embedded target, or for the running target ``chosen``.

    ``start`` is in s since midnight UTC, or None if unknown. By default, the scenario gives ``job_s``, the duration
    of a job or sync run in s. ``keys`` defaults to the number of keys of a run. ``price``, of one execution, defaults
    to the price in ``targets.toml``.
    Raises ``InputError`` if there are too few keys, a rate is impossible, or all rates are zero.
    """
    scenario = loaded.scenario
    keys = keys if keys is not None else scenario.keys if chosen is None else len(api_keys())
    question = question_of(loaded, chosen, keys=keys, start=start, job_s=job_s)
    entry = None if chosen is None else chosen.entry
    price = entry.price_per_execution if price is None and entry is not None else price
    plan = make_plan(question, loaded.name, keys, price)
    if chosen is None:
        return msgspec.structs.replace(plan, faults=list(map(to_words, scenario.target.settings.fault)))
    return msgspec.structs.replace(plan, warnings=[*_budget_warnings(loaded, chosen, keys), *plan.warnings])


def over_budget(loaded: LoadedScenario, chosen: NamedEntry, keys: int, *, preflight: bool = True) -> InputError | None:
    """Return the reason why an entry's request budget does not allow a run; None if it does."""
    try:
        check_before_run(loaded, chosen, keys=keys, preflight=preflight)
    except InputError as error:
        return error
    return None


def _budget_warnings(loaded: LoadedScenario, chosen: NamedEntry, keys: int) -> list[Contradiction]:
    """Return a warning if a run would exceed its request budget, with the largest rate multiplier that fits, if any."""
    if (error := over_budget(loaded, chosen, keys)) is None:
        return []
    parts = range(1, 1 if loaded.scenario.recorded else 100)
    percent = bisect_left(
        parts, x=True, key=lambda percent: over_budget(at_rate(loaded, percent / 100, 0), chosen, keys) is not None
    )
    multiplier = loaded.scenario.rate_multiplier * percent / 100
    return [
        Contradiction(
            kind="budget",
            key=f"{chosen.path}: {chosen.name}",
            message=error.message.removeprefix(chosen.key("")),
            remedy=f"Use --rate-multiplier {multiplier:g}, which fits." if percent else error.remedy,
        )
    ]


class EmbeddedTarget:
    """A reference API in a child process. Raises ``TargetError`` if it does not start."""

    def __init__(self, process: "subprocess.Popen[bytes]", *, faulty: bool) -> None:
        self._process = process
        self._log: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._drain, daemon=True).start()
        self.url = self._url_after(" on http")
        self.environment = {CONTROL_VARIABLE: self._url_after("control on http")} if faulty else {}
        """Environment variables for the load: the API's control endpoint if it has faults, else none."""

    @property
    def crashed(self) -> bool:
        return self._process.poll() is not None

    def write_log(self, path: Path) -> None:
        path.write_text("".join(self._log), encoding="utf-8")

    def _drain(self) -> None:
        for line in self._process.stdout or ():
            self._log.append(line.decode(errors="replace"))
            self._lines.put(self._log[-1])
        self._lines.put("")

    def _url_after(self, mark: str) -> str:
        try:
            while line := self._lines.get(timeout=_READY_TIMEOUT):
                if mark in line:
                    return line.rsplit(" ", 1)[-1].strip()
        except queue.Empty:
            pass
        said = "".join(self._log).strip() or "no output"
        raise TargetError(f"the embedded target did not start: {said}")


@contextmanager
def embedded_target(settings: ReferenceSettings, environment: Mapping[str, str]) -> Iterator[EmbeddedTarget]:
    """Run the reference API on a free loopback port until the context ends. ``environment`` has its keys."""
    options = ["serve", "--port", "0", "--exit-with-parent", *serve_arguments(settings)]
    # Ctrl-C does not reach the API, because the load needs it until the drain ends.
    process = start_child("loadtest.cli", *options, environment=environment, stderr=subprocess.STDOUT)
    try:
        yield EmbeddedTarget(process, faulty=bool(settings.fault))
    finally:
        stop(process)


def serve_arguments(settings: ReferenceSettings) -> list[str]:
    """Return a scenario's ``[target]`` as options of ``loadtest serve``."""
    # The load's epoch is not known yet. The load sends it later, to the control endpoint.
    faulty = {"fault_clock": "epoch", "control_port": 0} if settings.fault else {}
    return option_words(**to_options(settings), **faulty)


def own_credentials(keys: int) -> tuple[tuple[str, ...], str]:
    """Return new keys, and the endpoint, for an embedded target."""
    return tuple(secrets.token_urlsafe(24) for _ in range(keys)), "embedded"


def child_environment(keys: Sequence[str], endpoint: str) -> dict[str, str]:
    """Return our environment with the credentials of a run. Child processes get secrets in no other way."""
    return {**os.environ, KEYS_VARIABLE: ",".join(keys), ENDPOINT_VARIABLE: endpoint}


def credentials_for(chosen: ChosenTarget, environ: Mapping[str, str] = os.environ) -> tuple[tuple[str, ...], str]:
    """Return the keys and the endpoint of the environment. An endpoint in the target's entry takes precedence.

    Raises ``InputError`` if a key, the endpoint or a header is invalid, or a header's variable is not set.
    """
    keys, endpoint = credentials(environ)
    header_values(chosen.headers)
    entry = chosen.entry
    return keys, endpoint if entry is None or entry.endpoint is None else entry.endpoint


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """A target that is ready for load.

    ``environment`` is for the load's processes and has the credentials. ``description`` is a sentence about the load's
    destination and budget. For an embedded target, ``chosen`` is None and ``embedded`` is its process.
    """

    url: str
    keys: Sequence[str] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    description: str
    chosen: ChosenTarget | None = None
    preflight: Preflight = field(default_factory=Preflight)
    embedded: EmbeddedTarget | None = None


@contextmanager
def resolved_target(loaded: LoadedScenario, options: TargetOptions) -> Iterator[ResolvedTarget]:
    """Yield the target of a run, ready for load. An embedded target runs until the context ends.

    Raises:
        InputError: if the target must not be loaded, or the load would exceed its budget.
        TargetError: if the preflight fails, or the embedded target does not start.
    """
    preflight = not options.no_preflight
    if (chosen := options.chosen()) is None:
        keys, endpoint = own_credentials(loaded.scenario.keys)
    else:
        keys, endpoint = credentials_for(chosen)
        check_before_run(loaded, chosen, keys=len(keys), preflight=preflight)
        confirm(chosen, yes=options.yes)
    with ready_target(loaded, chosen, keys, endpoint, preflight=preflight) as resolved:
        yield resolved


@contextmanager
def ready_target(
    loaded: LoadedScenario, chosen: ChosenTarget | None, keys: Sequence[str], endpoint: str, *, preflight: bool
) -> Iterator[ResolvedTarget]:
    """Yield a target, ready for load: a running target whose budget is already checked, or a new embedded target.

    Raises:
        InputError: if the scenario runs a workflow that the embedded target does not have.
        TargetError: if the preflight fails, or the embedded target does not start.
    """
    environment = child_environment(keys, endpoint)
    if chosen is not None:
        seen = look(chosen, loaded.effective, environment, preflight=preflight)
        url, entry = chosen.target.url, chosen.entry
        words = f"Load goes to {url}, a running target on this machine."
        if entry is not None:
            about = f"{chosen.name!r} in {chosen.path} ({entry.environment}, {entry.owner})"
            words = f"Load goes to {url}, within the request budget of {about}."
        if differing := differing_limits(loaded, chosen):
            words += f"\n{pasteable(differing)}"
        yield ResolvedTarget(url, keys, environment, words, chosen, seen)
        return
    for wrong in unknown_workflows(loaded.scenario):
        raise InputError(f"{loaded.path}, {wrong.key}: {wrong.message}", wrong.remedy)
    with embedded_target(loaded.scenario.target.settings, environment) as embedded:
        words = f"Load goes to {embedded.url}, an embedded target on this machine."
        yield ResolvedTarget(embedded.url, keys, environment | embedded.environment, words, embedded=embedded)


def prepare(
    loaded: LoadedScenario, target: ResolvedTarget, output_dir: Path, *, first: bool = True, **about: Any
) -> tuple[Path, RunInfo]:
    """Create a run's directory with ``prepare_run``. Only a ``first`` run records the preflight's requests."""
    return prepare_run(
        loaded,
        url=target.url,
        keys=len(target.keys),
        command=["loadtest", *sys.argv[1:]],
        output_dir=output_dir,
        chosen=target.chosen,
        preflight=target.preflight.sent if first else (),
        **about,
    )
