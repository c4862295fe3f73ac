"""Figures drawn by several processes: the same bytes as by one, and none lost with a child."""

import os
import signal
from functools import partial
from pathlib import Path

from loadtest.analysis.findings import find
from loadtest.analysis.run_record import load_record
from loadtest.report.page import Page
from loadtest.report.plots import draw_all, shared_out


def test_any_number_of_processes_draws_the_same_bytes(toured: tuple[Path, Page]) -> None:
    directory, page = toured
    plots = draw_all(find(load_record(directory)), processes=4)
    assert len(plots) > 10
    drawn = {plot.name: plot for plot in plots if plot.svg}
    assert drawn == {plot.name: plot for plot in page.plots}


def _die_in_a_child(parent: int, number: int) -> int:
    if os.getpid() != parent and number % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _work(parent: int, number: int) -> tuple[int, bool]:
    return number, os.getpid() == parent


def test_children_take_part() -> None:
    """Results come in the order of the tasks, whoever did them."""
    found = shared_out({str(number): partial(_work, os.getpid(), number) for number in range(20)}, 2)
    assert [number for number, _ in found.values()] == list(range(20))
    assert any(not here for _, here in found.values())


def test_what_a_dead_child_took_with_it_is_done_here() -> None:
    """Three children that are killed in the middle of a task lose no result."""
    tasks = {str(number): partial(_die_in_a_child, os.getpid(), number) for number in range(12)}
    assert shared_out(tasks, 4) == {str(number): number for number in range(12)}
