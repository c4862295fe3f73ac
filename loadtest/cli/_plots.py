"""The option of verbs that make a report."""

import click

plots_option = click.option(
    "--plots/--no-plots",
    default=True,
    envvar="LOADTEST_PLOTS",
    show_envvar=True,
    help="Draw plots, too: more than half of the time that a short run's report takes.",
)
