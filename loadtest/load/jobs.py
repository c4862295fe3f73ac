"""Job ids that retrievals ask for: seeded, those of the run itself, or a stored file of them."""

from pathlib import Path

from loadtest.errors import InputError


class JobIds:
    """Ids by the index of the key that made the job; a job is visible to that key only."""

    def __init__(self, keys: int) -> None:
        self._by_key: list[list[str]] = [[] for _ in range(keys)]

    def add(self, job_id: str, key_index: int) -> None:
        """Know one more job."""
        self._by_key[key_index].append(job_id)

    def all(self) -> list[tuple[str, int]]:
        """Every id, with the index of its key."""
        return [(job_id, key) for key, ids in enumerate(self._by_key) for job_id in ids]

    def pick(self, number: int, key_index: int) -> str | None:
        """The id that arrival ``number`` asks for: its key's ids in turn; None if there is none yet."""
        ids = self._by_key[key_index]
        return ids[number // len(self._by_key) % len(ids)] if ids else None


def read_job_ids(path: Path, keys: int) -> JobIds:
    """Read a file of ids, one a line; a tab and a number behind an id name the index of its key.

    Ids without one are shared out over all keys.

    Raises:
        InputError: if the file cannot be read, holds no id, or names a key that is not there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        # ValueErrors are those of UTF-8, and of a path with a NUL in it.
        raise InputError(f"cannot read job_ids from {path}: {error}", "Name a file with one job id a line.") from error
    known = JobIds(keys)
    count = 0
    for number, line in enumerate(lines, 1):
        job_id, tab, index = line.strip().partition("\t")
        if not job_id:
            continue
        if tab and not (index.isdecimal() and int(index) < keys):
            raise InputError(
                f"{path}:{number}: {index!r} is no index of the {keys} key(s) in use",
                "Put as many keys into WORKFLOW_API_KEYS as made these jobs.",
            )
        known.add(job_id, int(index) if tab else count % keys)
        count += 1
    if count == 0:
        raise InputError(f"{path} holds no job id", "Name a file with one job id a line; every run stores its own.")
    return known
