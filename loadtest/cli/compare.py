"""``loadtest compare``: two versions that can both be reached, in pairs of blocks one after the other."""

from typing import Any, Final

import click

from loadtest.cli._options import DURATION, shared
from loadtest.compare.paired import LEAST_PAIRS
from loadtest.errors import ExitCode, InputError
from loadtest.record.blocks import SIDES
from loadtest.runs.comparison import compare
from loadtest.runs.sides import SideOptions

_MOST_PAIRS: Final = 200


@click.command("compare")
@click.argument("scenario")
@click.option("--base", metavar="URL|TARGET", help="Present version: its URL, or its name in targets.toml.")
@click.option("--head", metavar="URL|TARGET", help="New version. Default of both: two embedded reference APIs.")
@shared("targets")
@click.option(
    "--pairs",
    type=click.IntRange(LEAST_PAIRS, _MOST_PAIRS),
    default=6,
    show_default=True,
    help="Pairs of blocks that count; one more comes before them.",
)
@click.option(
    "--block", "block_s", type=DURATION, help="Scale the stages to blocks of this length, as 20s.  [default: as is]"
)
@shared("set")
@click.option(
    "--base-set", multiple=True, metavar="KEY=VALUE", help="As --set, of the base side's embedded API alone: target.…"
)
@click.option(
    "--head-set", multiple=True, metavar="KEY=VALUE", help="As --set, of the head side's embedded API alone: target.…"
)
@click.option("--base-version", default="", metavar="TEXT", help="What to call the present version.")
@click.option("--head-version", default="", metavar="TEXT", help="What to call the new version.")
@shared("seed", "yes")
@click.option("--no-preflight", is_flag=True, help="Skip the preflights, which spend quota.")
@click.option("--plan", "plan_only", is_flag=True, help="Only print what would be sent, and check the budgets.")
@click.option("--no-rerun", is_flag=True, help="Do not settle a suspicion by a second series: exit code 6.")
@click.option("--fail-on-inconclusive", is_flag=True, help="Exit code 1 instead of 6.")
@shared("output_dir", "plots")
def command(scenario: str, *, fail_on_inconclusive: bool, **options: Any) -> int:
    """Compare two versions of a service by SCENARIO, in pairs of blocks that alternate. The exit code is the verdict.

    A block is the whole scenario once. Exit codes: 0 no regression found, 4 regressed, 6 inconclusive, 3 invalid.
    """
    sides = {
        side: SideOptions(options.pop(side), options.pop(f"{side}_set"), options.pop(f"{side}_version"))
        for side in SIDES
    }
    if options["block_s"] == 0:
        raise InputError("--block 0s: a block needs time", "Give it some seconds, as --block 20s.")
    code = compare(scenario, sides, **options)
    return int(ExitCode.FAIL) if code == ExitCode.INCONCLUSIVE and fail_on_inconclusive else code
