"""The files that a run on a leash takes."""

from pathlib import Path

ABORTED = {7, 3}
"""Exit codes of a run that was aborted: on a machine that is busy it may be invalid, too, and says both."""


def write_scenario(
    folder: Path, *, operation: str = "async_run", rate: str = "5/s", seconds: int = 2, more: str = "", top: str = ""
) -> None:
    """Write ``s.toml``: one entry, one stage."""  # fmt: skip
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
