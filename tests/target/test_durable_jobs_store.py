"""Jobs on disk by themselves: which files are refused, what is bounded, and what a restart makes of what it finds."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugins.processes import until_async

from loadtest.cli import main
from loadtest.errors import InputError
from loadtest.target import jobs as jobs_module
from loadtest.target.config import ServerConfig
from loadtest.target.database import APPLICATION, FILE, INSERT, VERSION, Database
from loadtest.target.durable import DurableJobs
from loadtest.target.jobs import QueueFullError
from loadtest.target.loading import load_workflows
from loadtest.target.threads import Threads

OWNER = object()
WORKFLOWS = load_workflows(ServerConfig(), Threads(1))
HELLO, SLEEP = WORKFLOWS["say-hello"], WORKFLOWS["sleep"]


def store(directory: Path, **others: Any) -> DurableJobs:
    settings: dict[str, Any] = {"workers": 2, "queue": 100, "retention": 60.0, **others}
    return DurableJobs(Database(directory), {b"key": OWNER}, WORKFLOWS, **settings)


def running(directory: Path, use: Callable[[DurableJobs], Coroutine[Any, Any, None]], **others: Any) -> None:
    """Open a store, use it, close it."""

    async def run() -> None:
        jobs = store(directory, **others)
        jobs.start()
        try:
            await use(jobs)
        finally:
            jobs.close()

    asyncio.run(run())


def answer(jobs: DurableJobs, job_id: str) -> dict[str, Any]:
    body = jobs.retrieve(OWNER, job_id)
    assert body is not None
    decoded: dict[str, Any] = msgspec.json.decode(body)
    return decoded


def rows(directory: Path) -> int:
    with closing(sqlite3.connect(directory / FILE)) as connection:
        count: int = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
        return count


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.execute("CREATE TABLE jobs (future TEXT)")


def garbage(path: Path) -> None:
    path.write_bytes(b"# my notes\n" * 1000)


def damaged(path: Path) -> None:
    Database(path.parent).close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def cut(path: Path) -> None:
    Database(path.parent).close()
    path.write_bytes(path.read_bytes()[:6000])


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (foreign, "is a database of something else"),
        (newer, f"has format {VERSION + 1}, of a newer version"),
        (garbage, "is not a database"),
        (damaged, "is damaged"),
        (cut, "is damaged"),
        (folder, "unable to open"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_alone(
    tmp_path: Path, prepare: Callable[[Path], None], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server says which file and what to do about it, exits with 2, and has changed nothing."""
    path = tmp_path / FILE
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    assert main(["serve", "--port", "0", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert str(path) in said.err
    assert problem in said.err
    assert "irectory" in said.err  # the remedy
    assert "Traceback" not in said.err
    assert before is None or path.read_bytes() == before


def test_a_directory_that_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It can't be made below a file."""
    (tmp_path / "file").write_text("")
    assert main(["serve", "--port", "0", "--data", str(tmp_path / "file" / "jobs")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "file" / "jobs") in said
    assert "Name a directory that can be written" in said


def test_a_directory_is_made_and_let_go_of(tmp_path: Path) -> None:
    """It comes with its parents, is closed to others, and can be had again when its server has stopped."""
    directory = tmp_path / "a" / "b"
    first = Database(directory)
    assert directory.stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="in use"):
        Database(directory)
    first.close()
    Database(directory).close()


def test_what_waits_for_the_disk_is_bounded_by_the_queue(tmp_path: Path) -> None:
    """However many submits come while one group is written, no more than workers and queue are taken."""

    async def use(jobs: DurableJobs) -> None:
        submits = [jobs.accept(OWNER, SLEEP, SLEEP.parse({"ms": 60_000}), {"ms": 60_000}) for _ in range(50)]
        done = await asyncio.gather(*submits, return_exceptions=True)
        assert sum(isinstance(each, QueueFullError) for each in done) == 50 - 12
        await until_async(lambda: jobs.running == 2)
        assert (jobs.waiting, sum(jobs.counts.values())) == (10, 12)

    running(tmp_path, use, workers=2, queue=10)
    assert rows(tmp_path) == 12


def test_submits_that_come_together_are_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush is shared by all that wait for it."""
    commits = []
    write = Database.write
    monkeypatch.setattr(Database, "write", lambda self, statements: (commits.append(1), write(self, statements)))

    async def use(jobs: DurableJobs) -> None:
        await asyncio.gather(*(jobs.accept(OWNER, HELLO, HELLO.parse({}), {}) for _ in range(100)))
        assert len(commits) <= 2
        await until_async(lambda: jobs.kept == 100)
        assert len(commits) < 60

    running(tmp_path, use)


def test_nothing_is_shown_before_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end is pending until its answer is written; a server killed before it could tell of another."""
    shown: list[int] = []
    write = Database.write

    def looking(self: Database, statements: Any) -> None:
        write(self, statements)
        shown.append(jobs_now[0].kept)

    jobs_now: list[DurableJobs] = []
    monkeypatch.setattr(Database, "write", looking)

    async def use(jobs: DurableJobs) -> None:
        jobs_now.append(jobs)
        job = await jobs.accept(OWNER, HELLO, HELLO.parse({}), {})
        await until_async(lambda: jobs.kept)
        assert answer(jobs, job.id)["status"] == "completed"
        assert shown == [0, 0]

    running(tmp_path, use)


def test_expired_jobs_leave_the_disk(tmp_path: Path) -> None:
    """While the server runs and where it was stopped meanwhile, by the wall clock."""
    now = 1000.0

    async def use(jobs: DurableJobs) -> None:
        for _ in range(5):
            await jobs.accept(OWNER, HELLO, HELLO.parse({}), {})
        await until_async(lambda: jobs.kept == 5)

    async def look(jobs: DurableJobs) -> None:
        nonlocal now
        assert jobs.kept == 5
        now += 60
        assert not jobs.expire()

    clocks = {"clock": lambda: now, "wall": lambda: now}
    running(tmp_path, use, **clocks)
    assert rows(tmp_path) == 5
    running(tmp_path, look, **clocks)
    assert rows(tmp_path) == 0
    running(tmp_path, use, **clocks)
    now += 60
    store(tmp_path, **clocks).close()
    assert rows(tmp_path) == 0


def test_what_a_restart_found_expires_though_no_job_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer that frees jobs runs from the start."""
    monkeypatch.setattr(jobs_module, "SWEEP_EVERY", 0.01)

    async def use(jobs: DurableJobs) -> None:
        await jobs.accept(OWNER, HELLO, HELLO.parse({}), {})
        await until_async(lambda: jobs.kept)

    async def look(jobs: DurableJobs) -> None:
        await until_async(lambda: not jobs.kept)

    running(tmp_path, use)
    running(tmp_path, look, retention=1.0)
    assert rows(tmp_path) == 0


def test_a_restart_shortens_a_retention_and_never_extends_it(tmp_path: Path) -> None:
    """What is left of it counts from the job's end, also where the wall clock was set back."""
    now, wall = 100.0, 5000.0
    clocks = {"clock": lambda: now, "wall": lambda: wall}
    ids: list[str] = []

    async def use(jobs: DurableJobs) -> None:
        ids.append((await jobs.accept(OWNER, HELLO, HELLO.parse({}), {})).id)
        await until_async(lambda: jobs.kept)

    running(tmp_path, use, **clocks)
    for wall_now, left in ((5050.0, 10.0), (3000.0, 60.0)):
        wall, now = wall_now, 0.0
        jobs = store(tmp_path, **clocks)
        now = left - 0.01
        assert jobs.retrieve(OWNER, ids[0])
        now = left
        assert jobs.retrieve(OWNER, ids[0]) is None
        jobs.close()


@pytest.mark.parametrize(
    ("workflow", "parameters", "why"),
    [
        ("gone", b"{}", "'gone' any more: There is no workflow of this name"),
        ("sleep", b'{"ms":"long"}', "'sleep' any more: Invalid parameters for sleep: parameters.ms: Expected"),
    ],
)
def test_a_job_that_can_no_longer_run_fails_and_says_why(
    tmp_path: Path, workflow: str, parameters: bytes, why: str
) -> None:
    """Its workflow was removed, or takes other parameters now: it ends, once, and the others go on."""
    first = store(tmp_path)
    digest = first._digests[OWNER]
    values = [(1, "a", digest, workflow, parameters), (2, "b", digest, "say-hello", b"{}")]
    first._database.write([(INSERT, values)])
    first.close()
    seen: list[dict[str, Any]] = []

    async def use(jobs: DurableJobs) -> None:
        await until_async(lambda: jobs.kept == 2)
        seen.append(answer(jobs, "a"))
        assert answer(jobs, "b")["status"] == "completed"

    running(tmp_path, use)
    assert seen[0]["status"] == "failed"
    assert why in seen[0]["error"]
    running(tmp_path, use)
    assert seen[1] == seen[0]


def test_more_jobs_than_a_smaller_queue_holds_are_all_executed(tmp_path: Path) -> None:
    """A server that is started again with a smaller queue takes all up, and refuses submits until there is room."""

    async def use(jobs: DurableJobs) -> None:
        with pytest.raises(QueueFullError):
            await jobs.accept(OWNER, HELLO, HELLO.parse({}), {})
        await until_async(lambda: jobs.kept == 20)
        await jobs.accept(OWNER, HELLO, HELLO.parse({}), {})

    first = store(tmp_path)
    values = [(n + 1, f"job{n}", first._digests[OWNER], "sleep", b'{"ms":5}') for n in range(20)]
    first._database.write([(INSERT, values)])
    first.close()
    running(tmp_path, use, workers=1, queue=2)
