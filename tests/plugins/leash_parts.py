"""The files of a run with a request budget."""

from pathlib import Path

ABORTED = {7, 3}
"""Exit codes of an aborted run. On a busy machine, the run may also be invalid."""


def write_scenario(
    folder: Path, *, operation: str = "async_run", rate: str = "5/s", seconds: int = 2, more: str = "", top: str = ""
) -> None:
    """Write the scenario ``s.toml``, which has one entry with one stage."""  # fmt: skip
    polling = 'polling = { interval = "100ms", give_up = "20s" }\n' if operation == "async_run" else ""
    (folder / "s.toml").write_text(
        f'title = "T"\ndrain = "500ms"\n{top}\n[traffic.t]\noperation = "{operation}"\n'
        f'workflow = "say-hello"\n{polling}'
        f'{more}\nstages = [{{ name = "only", rate = "{rate}", duration = "{seconds}s" }}]\n'
    )


def write_entry(folder: Path, url: str, more: str = "max_share = 1", environment: str = "test") -> None:
    """Write ``targets.toml`` with the entry ``here``."""
    (folder / "targets.toml").write_text(
        f'[here]\nurl = "{url}"\nenvironment = "{environment}"\nowner = "team-x"\n{more}\n'
    )
