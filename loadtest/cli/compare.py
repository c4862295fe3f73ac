"""``loadtest compare``: compares two versions of a service in pairs of blocks."""

from typing import Any

import click

from loadtest.cli._options import DURATION, shared
from loadtest.compare.paired import LOOKS, MOST_PAIRS
from loadtest.errors import InputError
from loadtest.record.blocks import SIDES
from loadtest.runs.comparison import compare
from loadtest.runs.sides import SideOptions


@click.command("compare")
@click.argument("scenario")
@click.option("--base", metavar="URL|TARGET", help="URL of the present version, or its name in targets.toml.")
@click.option("--head", metavar="URL|TARGET", help="URL or name of the new version.  [default: two embedded APIs]")
@shared("targets")
@click.option(
    "--pairs",
    type=click.IntRange(LOOKS[0], MOST_PAIRS),
    default=LOOKS[-1],
    show_default=True,
    help="Maximum number of pairs of blocks. The first pair is discarded and does not count.",
)
@click.option(
    "--block",
    "block_s",
    type=DURATION,
    help="Scale the stages so that a block lasts this long, such as 20s.  [default: unchanged]",
)
@shared("set")
@click.option(
    "--base-set",
    multiple=True,
    metavar="KEY=VALUE",
    help="Like --set, but only for keys target.… of the base side's embedded API.",
)
@click.option(
    "--head-set",
    multiple=True,
    metavar="KEY=VALUE",
    help="Like --set, but only for keys target.… of the head side's embedded API.",
)
@click.option("--base-version", default="", metavar="TEXT", help="Name of the present version.")
@click.option("--head-version", default="", metavar="TEXT", help="Name of the new version.")
@shared("seed", "yes")
@click.option("--no-preflight", is_flag=True, help="Skip the preflights, which spend quota.")
@click.option("--plan", "plan_only", is_flag=True, help="Only print the load, and check the request budgets.")
@shared("fail_on_inconclusive", "output_dir", "plots")
def command(scenario: str, **options: Any) -> int:
    """Compare two versions of a service under SCENARIO, in pairs of blocks. The exit code is the verdict.

    A block is one run of the whole scenario. The evidence is judged after 4, 6, 8, 10 and 12 pairs, and after the
    last. As soon as it suffices, the comparison ends. Exit codes: 0 no regression, 4 regressed, 6 inconclusive, 3
    invalid.
    """
    sides = {
        side: SideOptions(options.pop(side), options.pop(f"{side}_set"), options.pop(f"{side}_version"))
        for side in SIDES
    }
    if options["block_s"] == 0:
        raise InputError("--block 0s: must be above zero", "Give some seconds, such as --block 20s.")
    return compare(scenario, sides, **options)
