"""Which key an arrival uses, and which jobs retrievals ask for."""

from typing import Any

import pytest
from plugins.processes import Fixture

from loadtest.analysis import load_record
from loadtest.analysis.findings import find


def test_keys_and_job_ids(offer: Any, serve: Fixture) -> None:
    """Arrival k uses key k mod K, its polls too, and every key has limits of its own. Retrievals ask for seeded jobs,
    or for the run's own as they come, and a later run for those that an earlier one stored.
    """
    target = serve("--limit", "sync_run=5/1h", "--limit", "retrieval=1000000/s", WORKFLOW_API_KEYS="ka,kb,kc")
    text = offer.scenario(
        offer.entry("runs", "sync_run", "30/s", "1s"),
        offer.entry("jobs", "async_run", "20/s", "1s", 'polling = { interval = "20ms", give_up = "5s" }'),
        offer.entry("looks", "retrieval", "30/s", "1s", "seed_jobs = 7"),
        offer.entry("later", "retrieval", "40/s", "1s", 'job_ids = "run"'),
    )
    first = offer(text, target.url, keys="ka,kb,kc").wait()
    first.check_conservation()
    for row in first.requests:
        assert row["key_index"] == row["parent_arrival"] % 3
    runs, jobs, looks, later = (
        [row for row in first.operations if row["traffic"] == name] for name in ("runs", "jobs", "looks", "later")
    )
    for key in range(3):
        mine = [row["outcome"] for row in runs if row["key_index"] == key]
        assert sorted(mine) == ["ok"] * 5 + ["throttled"] * 5
    # A job is visible to the key that made it only: all polls and retrievals found theirs.
    assert {row["outcome"] for row in jobs + looks} == {"ok"}
    assert {row["key_index"] for row in looks} == {0, 1, 2}
    assert {(row["outcome"], row["reason"]) for row in later} <= {("ok", None), ("dropped", "no_job_id")}
    assert sum(row["outcome"] == "ok" for row in later) >= 10
    own = {row["job_id"] for row in jobs}
    assert {row["job_id"] for row in later} - {None} <= own

    stored = first.directory / "job_ids.txt"
    known = {line.split("\t")[0] for line in stored.read_text().splitlines()}
    assert own <= known == own | {row["job_id"] for row in looks}
    text = offer.scenario(offer.entry("looks", "retrieval", "40/s", "1s", f'job_ids = "{stored}"'))
    second = offer(text, target.url, keys="ka,kb,kc").wait()
    assert second.check_conservation() == {"ok": 40}
    assert {row["job_id"] for row in second.operations} <= known
    assert not [row for row in second.rows if row["kind"] == "submit"]


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [("", 5, "http://127.0.0.1:1 refuses connections"), ('job_ids = "empty.txt"', 2, "has no job id")],
)
def test_jobs_that_cannot_be_had_end_the_run_with_a_sentence(offer, *, more, code, sentence):
    """Nobody listens, or an unusable file of ids: a sentence and an exit code, no traceback, no request."""
    (offer.folder / "empty.txt").write_text("\n \n")
    run = offer(offer.scenario(offer.entry("looks", "retrieval", "10/s", "1s", more)), "http://127.0.0.1:1").wait()
    assert run.process.returncode == code
    assert sentence in run.said[-1].decode()
    assert "Traceback" not in run.log
    assert run.info.end == "aborted"
    assert sentence in (run.info.end_reason or "")
    assert not (run.directory / "samples.arrows").exists() or not run.operations


def test_a_pool_that_never_catches_up_drops_the_rest(offer: Any, serve: Fixture) -> None:
    """What no user took before the drain was over is dropped, with a reason and nothing sent.

    It is counted to the keys that would have sent it, as their group has it; and the run knows that it is invalid.
    """
    target = serve("--limit", "sync_run=1000/1s", WORKFLOW_API_KEYS="ka,kb,kc")
    more = 'keys = "second"\nmax_users = 2\n' + offer.sleep(400)
    text = offer.scenario(offer.entry("runs", "sync_run", "30/s", "1s", more), drain="100ms")
    text = text.replace("[traffic.runs]", "[key_groups]\nfirst = 1\nsecond = 2\n[traffic.runs]")
    run = offer(text, target.url, keys="ka,kb,kc").wait()
    assert run.check_conservation()["dropped"] >= 20
    dropped = [row for row in run.operations if row["outcome"] == "dropped"]
    assert {(row["reason"], row["start"], row["status"]) for row in dropped} == {("no_user_free", None, None)}
    assert all(row["key_index"] == 1 + row["arrival"] % 2 for row in run.operations)
    (check,) = (check for check in find(load_record(run.directory)).checks if check.name == "users")
    assert not check.ok
    assert "the pool of 2 users of runs was full" in check.words
    assert "raise max_users" in check.words
