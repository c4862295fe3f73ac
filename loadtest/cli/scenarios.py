"""``loadtest scenarios``: lists scenarios."""

from pathlib import Path

import click

from loadtest.errors import ExitCode, InputError
from loadtest.scenario import FOLDER, SHIPPED, load_scenario


@click.command("scenarios")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Folder of scenario files.  [default: scenarios, and the shipped scenarios]",
)
def command(folder: Path | None) -> int:
    """List scenarios with duration and title. The exit code is 2 if a scenario has errors, which are shown."""
    folders = (SHIPPED, FOLDER) if folder is None else (folder,)
    found = {path.stem: path for place in folders for path in place.glob("*.toml")}
    if not found:
        raise InputError(f"there is no scenario in {folder}", "Use another --folder.")
    width = max(map(len, found))
    code = ExitCode.PASS
    for name in sorted(found):
        try:
            scenario = load_scenario(found[name]).scenario
        except InputError as error:
            click.echo(str(error), err=True)
            code = ExitCode.USAGE
            continue
        seconds = scenario.warmup + max(traffic.duration for traffic in scenario.traffic.values())
        print(f"{name:<{width}}  {seconds:4.0f} s  {scenario.title}")
    return int(code)
