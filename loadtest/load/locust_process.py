"""A process of plain Locust. It is a worker, or it conducts the runs of Locust's web UI or command line."""

import logging
import os
import signal
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner
from locust.web import WebUI

from loadtest.errors import ExitCode
from loadtest.load.distributed.transport import Mailbox
from loadtest.load.distributed.worker import Worker
from loadtest.load.engine import Engine
from loadtest.load.load_generator import on_end_of, on_signals
from loadtest.load.locust_test import LocustTest, Reports, StartedRun
from loadtest.load.session import Session
from loadtest.load.web.metrics import serve_metrics
from loadtest.load.web.pages import extend, labelled

logger = logging.getLogger("loadtest")


class WholePool(LoadTestShape):
    """The load shape of a test. It never changes the number of users, because the schedule sets the load."""

    process: "LocustProcess"
    abstract = True

    def reset_time(self) -> None:
        super().reset_time()  # type: ignore[no-untyped-call] # Locust's method is not annotated
        self.process.engine.done.clear()

    def tick(self) -> tuple[int, float] | None:
        """Return the number of users and the spawn rate, or None at the end of the run."""
        users = self.process.test.users
        return None if self.process.engine.done.is_set() else (users, float(users))


class LocustProcess:
    """Conducts the runs of Locust's environment, from its ``init`` event on."""

    engine: Engine
    """Set at the ``init`` event, except in a worker."""

    def __init__(self, test: LocustTest) -> None:
        self.test = test
        # `loadtest ui` holds the other end of this socket open while it runs. Under `loadtest ui`, the exit code is 0
        # instead of the verdict's.
        self._parent_fd = int(os.environ.get("LOADTEST_PARENT_FD", "-1"))
        self.reports = Reports(plots=os.environ.get("LOADTEST_PLOTS", "1") != "0")

    def check_target(self) -> None:
        """Check the target before Locust forks or listens.

        With --headless or --autostart, also send a preflight, if it is on. Raise ``LoadtestError`` if the
        target must not be loaded, or cannot be.
        """
        options, test = self.test.options, self.test
        if options.worker:
            return
        if options.headless or options.autostart:
            test.look(test.url)
        elif test.url:
            test.check(test.url)

    def set_up(self, environment: Environment, web_ui: WebUI | None = None, **_: Any) -> None:
        """Let an engine run the tests of Locust's environment. In a worker process, a ``Worker`` takes part in them."""
        runner = environment.runner
        if isinstance(runner, WorkerRunner):
            self._take_part(environment, runner)
            return
        if self.test.chosen is not None:
            environment.host = self.test.url
        if runner is not None:
            self._keep_pool(runner)
        # All users start at once. They do not set the load, so Locust's advice on the spawn rate is wrong here.
        logging.getLogger("locust.runners").addFilter(lambda record: "spawn rate is very high" not in str(record.msg))
        master = runner if isinstance(runner, MasterRunner) else None
        self.engine = engine = Engine(
            environment,
            lambda: self._make_session(environment),
            mailbox=None if master is None else Mailbox(environment, master, keys=len(self.test.keys)),
            on_end=self.reports.end,
        )
        if self.test.options.metrics_port is not None:
            serve_metrics(engine, self.test.options.metrics_port)
        # By default, SIGINT raises an exception in the current greenlet, which would lose its arrival or the schedule.
        gevent.signal_handler(signal.SIGINT, _interrupt, engine)
        if web_ui is not None:
            extend(web_ui, engine, self.test, self.reports)
        else:
            self.reports.kept = True
            # With a load shape, headless Locust handles SIGTERM only after the run.
            gevent.signal_handler(signal.SIGTERM, _interrupt, engine)
        environment.events.quitting.add_listener(lambda **_: self._finish(environment, engine))
        environment.events.quit.add_listener(lambda **_: self._end(environment))
        if self._parent_fd >= 0:
            on_end_of(self._parent_fd, lambda: os.kill(os.getpid(), signal.SIGTERM))

    def _keep_pool(self, runner: Runner) -> None:
        """Ignore the keys w, W, s and S of Locust's terminal, which would change the number of users."""
        start = runner.start

        def start_pool(user_count: int, *arguments: Any, **options: Any) -> None:
            if user_count == self.test.users:
                start(user_count, *arguments, **options)
            else:
                logger.warning("The scenario sets the number of users: it stays at %d.", self.test.users)

        vars(runner)["start"] = start_pool

    def _take_part(self, environment: Environment, runner: WorkerRunner) -> None:
        worker = Worker(
            environment,
            runner,
            keys=self.test.keys,
            workflow_endpoint=self.test.endpoint,
            base=self.test.loaded.path.parent,
            on_refused=lambda why: logger.error("This worker cannot take part: %s", why),
        )
        on_signals(worker.interrupt)
        # Locust's worker process ends when its runner quits.
        worker.left.rawlink(lambda _: gevent.spawn(runner.quit))

    def _make_session(self, environment: Environment) -> Session:
        session = self.test.make_session(environment)
        self.reports.runs.append(StartedRun(session.directory, session.scenario))
        return session

    def _finish(self, environment: Environment, engine: Engine) -> None:
        """Close and report the last run before Locust ends, and set the exit code."""
        if engine.phase != "over" and environment.runner is not None:
            environment.runner.stop()
        # Headless Locust would repeat its table until the report is made. It still prints the final table.
        tables = logging.getLogger("locust.stats_logger")
        tables.disabled = self.reports.kept
        code = self.reports.finish()
        tables.disabled = False
        if engine.error is not None:
            code = int(engine.error.exit_code)
        elif self._parent_fd >= 0:
            code = int(ExitCode.PASS)
        environment.process_exit_code = code

    def _end(self, environment: Environment) -> None:
        """Print the first screen of the report, and label Locust's own report (``--html``)."""
        self.reports.print_kept()
        options = environment.parsed_options
        if options is not None and options.html_file and (path := Path(options.html_file)).is_file():
            path.write_text(labelled(path.read_text(encoding="utf-8"), self.reports.runs), encoding="utf-8")


def _interrupt(engine: Engine) -> None:
    if engine.phase == "over":
        raise KeyboardInterrupt
    engine.interrupt()
