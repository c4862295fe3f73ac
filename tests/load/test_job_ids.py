"""Job ids: by the key that made them, in turn, and from a file."""

from pathlib import Path

import pytest

from loadtest.errors import InputError
from loadtest.load.payloads import JobIds, JobNumbers, read_job_ids


def test_each_arrival_asks_for_its_keys_jobs_in_turn() -> None:
    """Arrival k uses key k mod K, and goes through that key's jobs one after another."""
    known = JobIds(2)
    for number in range(6):
        known.add(f"job-{number}", number % 2)
    assert [known.pick(number, number % 2) for number in range(8)] == [
        *("job-0", "job-1", "job-2", "job-3", "job-4", "job-5"),
        *("job-0", "job-1"),
    ]


def test_many_ids_are_picked_in_turn() -> None:
    """Ids that are kept packed come as those that are not yet, whatever characters they have."""
    known, ids = JobIds(2), [f"job\n\0ä-{number}" for number in range(1001)]
    for number, job_id in enumerate(ids):
        known.add(job_id, number % 2)
    assert [known.pick(number, number % 2) for number in range(1001)] == ids
    assert sorted(known.all()) == sorted((job_id, number % 2) for number, job_id in enumerate(ids))


def test_each_job_has_a_number_of_its_own() -> None:
    """Set in any order and set again, among so many that several share a part of the table."""
    numbers = JobNumbers()
    wanted = {f"job-{number * 7 % 5000}": number for number in range(8000)}
    for job_id, number in wanted.items():
        numbers[job_id] = number
    numbers["job-1"] = wanted["job-1"] = 2**61
    assert {job_id: numbers[job_id] for job_id in wanted} == wanted
    assert numbers["job"] == 0


def test_there_may_be_no_job_yet() -> None:
    """A key without jobs has none to ask for, whatever the others have."""
    known = JobIds(2)
    known.add("job", 1)
    assert (known.pick(0, 0), known.pick(1, 1)) == (None, "job")


@pytest.mark.parametrize(
    ("content", "keys", "picked"),
    [
        ("a\nb\nc\n", 1, ["a", "b", "c", "a"]),
        ("\n  a  \n\nb\n", 1, ["a", "b", "a", "b"]),  # blank lines and blanks are nothing
        ("a\r\nb\r\n", 1, ["a", "b", "a", "b"]),
        ("a", 1, ["a", "a", "a", "a"]),
        ("a\t0\nb\t1\nc\t1\n", 2, ["a", "b", "a", "c"]),  # as a run stores its own
        ("a\nb\nc\nd\n", 2, ["a", "b", "c", "d"]),  # shared out over the keys
        ("ä-1\n", 1, ["ä-1"] * 4),
    ],
)
def test_a_file_of_ids(tmp_path: Path, content: str, keys: int, picked: list[str]) -> None:
    """One id a line; behind a tab the index of its key."""
    path = tmp_path / "ids"
    path.write_bytes(content.encode())
    known = read_job_ids(path, keys)
    assert [known.pick(number, number % keys) for number in range(4)] == picked


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no job id"),
        (b"\n \n\t\n", "has no job id"),
        (b"a\t2\n", ":1: '2' is not an index of the 2 key"),
        (b"a\nb\t-1\n", ":2: '-1' is not an index"),
        (b"a\tx\n", "'x' is not an index"),
        (b"a\t0\t1\n", "is not an index"),
        (b"\xff\n", "cannot read job_ids"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """With the line, where it is a line's fault."""
    path = tmp_path / "ids"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_job_ids(path, 2)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", ".", "a" * 300, "a\0b"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    """Missing, a folder, or no name that a file can have."""
    with pytest.raises(InputError, match="cannot read job_ids"):
        read_job_ids(tmp_path / name, 1)
