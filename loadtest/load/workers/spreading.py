"""How many users each worker starts with, as Locust's master asks it of a dispatcher of users.

Locust's own moves users about when workers come and go, and stops those that it moves in the middle of what they do.
Here a worker that has its users keeps them: it is the arrivals that are shared out anew.
"""

from collections.abc import Callable, Iterator
from typing import Any

from locust import User
from locust.runners import WorkerNode


class Spreading:
    """Gives each worker its part of every class's users once, when it has agreed to take part.

    Args:
        worker_nodes: those that are connected.
        user_classes: with a ``fixed_count`` each, over all workers.
        agreed: says which workers take part, and how many there were when each was told so.
    """

    def __init__(
        self, worker_nodes: list[WorkerNode], user_classes: list[type[User]], *, agreed: Callable[[], dict[str, int]]
    ) -> None:
        self.dispatch_in_progress = True
        """To Locust: a worker that comes or goes is no reason to start again (it is told so where it is one)."""
        self._counts = {each.__name__: int(each.fixed_count) for each in user_classes}
        self._agreed = agreed
        self._nobody: dict[str, dict[str, int]] = {node.id: {} for node in worker_nodes[:1]}
        self._served = {node.id for node in worker_nodes if node.user_count}
        self._due = False

    def new_dispatch(self, target_user_count: int, spawn_rate: float, user_classes: Any = None) -> None:
        """Begin: all at once, whatever the rate."""
        self._due = True

    def __iter__(self) -> Iterator[dict[str, dict[str, int]]]:
        """Itself: Locust iterates until everybody has users."""
        return self

    def __next__(self) -> dict[str, dict[str, int]]:
        """Users by worker and class, of workers that have none yet."""
        if not self._due:
            raise StopIteration
        self._due = False
        agreed = self._agreed()
        new = {worker: of for worker, of in agreed.items() if worker not in self._served}
        self._served.update(new)
        # Locust fails where nobody gets anything; no classes at all change nothing.
        return {worker: part_of(self._counts, of) for worker, of in new.items()} or self._nobody

    def add_worker(self, worker_node: WorkerNode) -> None:
        """A worker is connected: it gets its users when it has agreed to take part."""

    def remove_worker(self, worker_node: WorkerNode) -> None:
        """A worker is gone; should it come back, it has no users."""
        self._served.discard(worker_node.id)


def part_of(counts: dict[str, int], workers: int) -> dict[str, int]:
    """One worker's part of users: rounded up, since each may be the one that needs the odd one."""
    return {name: -(-count // workers) for name, count in counts.items()}
