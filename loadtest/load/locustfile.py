"""What plain ``locust`` loads in a checkout (see ``[tool.locust]`` in pyproject.toml), and ``loadtest ui`` too.

The scenario is that of LOADTEST_SCENARIO, a file or a name in scenarios/, else the tour. Keys and endpoint come from
WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT. LOADTEST_TARGET names an entry of targets.toml (LOADTEST_TARGETS: of another
file) to load instead of --host; if it is production, LOADTEST_YES=1 stands in for typing its host. Every test that is
started is a run with a record of its own in reports/ (LOADTEST_OUTPUT_DIR): ``loadtest report latest`` reports it.

With --master and --worker (or --processes), workers make the load and the master has the record; LOADTEST_SCENARIO,
WORKFLOW_API_KEYS and WORKFLOW_ENDPOINT have to be the same for all.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import locust
import msgspec
from gevent import os as gevent_os
from locust.env import Environment
from locust.web import WebUI

from loadtest.credentials import credentials
from loadtest.errors import InputError, LoadtestError
from loadtest.load.distributed.master import DistributedGenerator
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.distributed.worker import Worker
from loadtest.load.engine import Engine
from loadtest.load.load_generator import LoadGenerator, LocalGenerator
from loadtest.load.session import Session, make_endpoint
from loadtest.load.users import user_classes
from loadtest.load.web import extend
from loadtest.plan import traffic_plans
from loadtest.prepare import assumed_limits_of, check_before_run, prepare_run
from loadtest.program import pasteable
from loadtest.record.run_info import PreflightRequest, RunInfo
from loadtest.scenario import find_scenario, load_scenario
from loadtest.targets import ChosenTarget, Target, allow, choose, confirm

logger = logging.getLogger("loadtest")
_embedded = os.environ.get("LOADTEST_EMBEDDED") == "1"
_output_dir = Path(os.environ.get("LOADTEST_OUTPUT_DIR", "reports"))
_parent_fd = int(os.environ.get("LOADTEST_PARENT_FD", "-1"))
_preflight = msgspec.json.decode(os.environ.get("LOADTEST_PREFLIGHT", "[]"), type=list[PreflightRequest])
_engine: Engine | None = None


@contextmanager
def _plain_refusal() -> Iterator[None]:
    """End Locust with our sentence and exit code instead of a traceback."""
    try:
        yield
    except LoadtestError as error:
        sys.stderr.write(f"loadtest: {error}\n")
        raise SystemExit(int(error.exit_code)) from None


def _choose() -> ChosenTarget | None:
    """The target that LOADTEST_TARGET names; None where --host names it, which must be loopback then."""
    name, path = os.environ.get("LOADTEST_TARGET"), os.environ.get("LOADTEST_TARGETS")
    if not name:
        return None
    chosen = choose(None, name, Path(path) if path else None)
    confirm(chosen, yes=os.environ.get("LOADTEST_YES") == "1")
    return chosen


def _target_of(url: str) -> Target:
    """The target at a URL, if it may be loaded here and now."""
    if _chosen is None:
        return allow(url)
    if url.rstrip("/") != _chosen.target.url:
        raise InputError(f"{url!r} is not the target {_chosen.name!r}", f"Load {_chosen.target.url}.")
    return _chosen.target


with _plain_refusal():
    _loaded = load_scenario(find_scenario(os.environ.get("LOADTEST_SCENARIO", "tour")))
    _keys, _endpoint = credentials()
    _chosen = _choose()
if _chosen is not None and _chosen.entry is not None and _chosen.entry.endpoint is not None:
    _endpoint = _chosen.entry.endpoint
_plans = traffic_plans(_loaded.scenario, assumed_limits_of(_loaded, _chosen, embedded=_embedded), len(_keys))
_users = sum(plan.users for plan in _plans.values())

# Locust takes the user classes that it finds among a locustfile's names. The prefix: an entry may be called like one of
# the names above.
with _plain_refusal():
    globals().update(
        {f"traffic {each.__name__}": each for each in user_classes(_loaded.scenario, _plans, _loaded.path.parent)}
    )


class WholePool(locust.LoadTestShape):
    """All users from the start until the schedule is over: they are the pool of concurrency, not the rate."""

    def reset_time(self) -> None:
        """Locust calls this when a test is about to start."""
        super().reset_time()  # type: ignore[no-untyped-call] # locust's
        if _engine is not None:
            _engine.done.clear()

    def tick(self) -> tuple[int, float] | None:
        """The pool's size, or None when the run needs its users no longer."""
        return None if _engine is None or _engine.done.is_set() else (_users, float(_users))


def _set_up(environment: Environment, web_ui: WebUI | None = None, **_: Any) -> None:
    global _engine  # noqa: PLW0603 - Locust makes the shape, which needs it, from its class alone
    runner = environment.runner
    if isinstance(runner, locust.runners.WorkerRunner):
        _take_part(environment, runner)
        return
    make_generator: Callable[[Session], LoadGenerator] = LocalGenerator
    if isinstance(runner, locust.runners.MasterRunner):
        mailbox = Mailbox(environment, runner, keys=len(_keys))
        make_generator = partial(DistributedGenerator, mailbox=mailbox)
    with _plain_refusal():
        if _chosen is not None:
            environment.host = _chosen.target.url
            check_before_run(_loaded, _chosen, keys=len(_keys), preflight=bool(_preflight))
        elif environment.host or web_ui is None:
            allow(environment.host or "")
    _engine = Engine(
        environment,
        lambda: _make_session(environment),
        make_generator=make_generator,
        on_end=_announce_record,
        on_error=_log_error,
    )
    # An interrupt must not be raised in the greenlet that happens to run: its arrival, or the schedule, would be lost.
    gevent.signal_handler(signal.SIGINT, _interrupt)
    if web_ui is not None:
        extend(web_ui, _engine, check=_target_of)
    else:
        # Locust itself listens to SIGTERM only after a headless run with a shape is over.
        gevent.signal_handler(signal.SIGTERM, _interrupt)
    if _parent_fd >= 0:
        gevent.spawn(_end_with_parent)


locust.events.init.add_listener(_set_up)


def _take_part(environment: Environment, runner: locust.runners.WorkerRunner) -> None:
    """Be a worker: the master conducts the runs."""
    worker = Worker(
        environment,
        runner,
        keys=_keys,
        workflow_endpoint=_endpoint,
        base=_loaded.path.parent,
        on_refused=lambda why: logger.error("This worker can't take part: %s", why),
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, worker.interrupt)
    # Locust's worker ends when its runner does.
    gevent.spawn(_end_with, worker, runner)


def _end_with(worker: Worker, runner: locust.runners.WorkerRunner) -> None:
    worker.left.wait()
    runner.quit()


def _interrupt() -> None:
    if _engine is None or _engine.phase == "over":
        raise KeyboardInterrupt
    _engine.interrupt()


def _make_session(environment: Environment) -> Session:
    target = _target_of(environment.host or "")
    directory, info = prepare_run(
        _loaded,
        url=target.url,
        embedded=_embedded,
        keys=len(_keys),
        command=["locust"],
        output_dir=_output_dir,
        chosen=_chosen,
        preflight=_preflight,
        target_version=os.environ.get("LOADTEST_TARGET_VERSION", ""),
    )
    # It was made once, before the first run.
    _preflight.clear()
    endpoint = make_endpoint(target, _keys, _endpoint, info)
    return Session(environment, directory, info, _loaded.scenario, endpoint, base=_loaded.path.parent)


def _announce_record(info: RunInfo) -> None:
    directory = _output_dir / info.id
    logger.info(pasteable(f"The record is in {directory}; `loadtest report {directory}` reports it."))
    if _parent_fd >= 0:
        os.write(_parent_fd, f"{directory}\n".encode())


def _log_error(environment: Environment, error: LoadtestError) -> None:
    logger.error("%s", error)
    environment.process_exit_code = int(error.exit_code)


def _end_with_parent() -> None:
    while gevent_os.tp_read(_parent_fd, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
