"""Figures drawn by several processes: none is lost with a child.

The heavy test of equal reports in ``test_report_files.py`` compares their bytes.
"""

import os
import signal
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Event

from loadtest.report.plots import shared_out


def _die_in_a_child(parent: int, number: int) -> int:
    if os.getpid() != parent and number % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _work(parent: int, begun: Event, number: int) -> tuple[int, bool]:
    # This process waits until a child has begun.
    if here := os.getpid() == parent:
        begun.wait(60)
    else:
        begun.set()
    return number, here


def test_children_take_part() -> None:
    """Results come in the order of the tasks, whoever did them."""
    begun = get_context("fork").Event()
    found = shared_out({str(number): partial(_work, os.getpid(), begun, number) for number in range(20)}, 2)
    assert [number for number, _ in found.values()] == list(range(20))
    assert any(not here for _, here in found.values())


def test_what_a_dead_child_took_with_it_is_done_here() -> None:
    """Three children that are killed in the middle of a task lose no result."""
    tasks = {str(number): partial(_die_in_a_child, os.getpid(), number) for number in range(12)}
    assert shared_out(tasks, 4) == {str(number): number for number in range(12)}
