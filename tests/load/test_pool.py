"""Pool and dispatcher: who gets which arrival, and that none is lost when users go."""

import time
from collections.abc import Iterator

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.load.dispatcher import Dispatcher, Partition, Stride
from loadtest.load.live import LiveFigures
from loadtest.load.pool import Pool
from loadtest.record.run_info import StagePlan
from loadtest.schedule import Arrival, TrafficSchedule


class Worker:
    """What a pool needs of a user: takes arrivals and notes them, for as long as it lives."""

    def __init__(self, pool: Pool, *, busy: float = 0.0) -> None:
        self.got: list[int] = []
        self.pool = pool
        self._busy = busy
        self.greenlet = gevent.spawn(self._work)

    def _work(self) -> None:
        while True:
            self.got.append(self.pool.take().number)
            gevent.sleep(self._busy)


@pytest.fixture
def crew() -> Iterator[list[Worker]]:
    """Workers that are stopped at the end."""
    workers: list[Worker] = []
    yield workers
    gevent.killall([worker.greenlet for worker in workers])


def arrival(number: int) -> Arrival:
    """An arrival of this number."""
    return Arrival("t", number, "s", number)


def settle() -> None:
    """Let everybody run until nothing more happens."""
    for _ in range(30):
        gevent.sleep(0)


def test_the_longest_idle_user_is_handed_out_last(crew: list[Worker]) -> None:
    """Last in, first out: with time between arrivals, one user does all the work."""
    pool = Pool(3)
    crew += [Worker(pool) for _ in range(3)]
    settle()
    assert pool.ready
    for number in range(5):
        pool.offer(arrival(number))
        settle()
    assert [worker.got for worker in crew] == [[], [], [0, 1, 2, 3, 4]]
    assert pool.quiet


def test_a_user_begins_before_whoever_offers_goes_on(crew: list[Worker]) -> None:
    """Handed over at once: what else the offering greenlet and the event loop have to do comes later."""
    begun: list[int] = []

    def take() -> None:
        begun.append(pool.take().number)

    pool = Pool(1)
    crew.append(Worker(Pool(1)))
    taker = gevent.spawn(take)
    settle()
    gevent.spawn(lambda: begun.append(-1))
    pool.offer(arrival(7))
    assert begun == [7, -1]
    assert taker.ready()


def test_a_greenlet_stopped_while_it_offers_is_not_woken_again(crew: list[Worker]) -> None:
    """Stopped while the user that it hands to has its turn: afterwards it can wait for something else, undisturbed."""
    pool = Pool(1)
    log: list[str] = []

    def offer() -> None:
        offering.kill(block=False)
        try:
            pool.offer(arrival(0))
        finally:
            log.append("stopped")
            gevent.sleep(0.01)
            log.append("waited")

    crew.append(Worker(pool, busy=0.05))
    settle()
    offering = gevent.spawn(offer)
    gevent.joinall([offering])
    assert log == ["stopped", "waited"]
    while not pool.quiet:
        gevent.sleep(0.01)
    assert crew[0].got == [0]


def test_waiting_arrivals_are_taken_in_their_order(crew: list[Worker]) -> None:
    """What no user was free for is taken first come, first served."""
    pool = Pool(1)
    for number in range(5):
        pool.offer(arrival(number))
    assert not pool.quiet
    crew.append(Worker(pool))
    settle()
    assert crew[0].got == [0, 1, 2, 3, 4]
    assert not pool.backlog


@settings(max_examples=settings.default.max_examples // 5)
@given(st.lists(st.sampled_from(["offer", "offer", "offer", "yield", "stop", "start"]), max_size=60))
def test_no_arrival_is_lost_whoever_is_stopped_when(steps: list[str]) -> None:
    """Offer, let run, stop and start users in any order: each arrival is carried out once, or still waits once."""
    pool = Pool(3)
    workers = [Worker(pool) for _ in range(3)]
    alive = list(workers)
    offered = 0
    for step in steps:
        if step == "offer":
            pool.offer(arrival(offered))
            offered += 1
        elif step == "yield":
            gevent.sleep(0)
        elif step == "stop" and alive:
            alive.pop(0).greenlet.kill()
        elif step == "start":
            alive.append(Worker(pool))
            workers.append(alive[-1])
    gevent.killall([worker.greenlet for worker in alive])
    done = [number for worker in workers for number in worker.got]
    assert sorted(done + [each.number for each in pool.backlog]) == list(range(offered))


def test_a_closed_pool_hands_nothing_out(crew: list[Worker]) -> None:
    """After an abort, what waits and what still comes due is left waiting, and the pool is quiet as it is."""
    pool = Pool(1)
    crew.append(Worker(pool, busy=0.01))
    settle()
    for number in range(3):
        pool.offer(arrival(number))
    settle()
    pool.close()
    pool.offer(arrival(3))
    while not pool.quiet:
        gevent.sleep(0.01)
    assert crew[0].got == [0]
    assert [each.number for each in pool.backlog] == [1, 2, 3]


def schedule(name: str, rate: float, duration: float) -> TrafficSchedule:
    """An even schedule."""
    stage = StagePlan(name="s", start_s=0.0, duration_s=duration, rate=rate, rate_to=rate)
    return TrafficSchedule(name, [stage], "even", 1)


def test_the_dispatcher_offers_everything_in_order_and_not_early(crew: list[Worker]) -> None:
    """All entries' arrivals are offered, none before its intended start."""
    pools = {"a": Pool(1), "b": Pool(1)}
    offered: list[tuple[str, int, int]] = []
    begun = time.monotonic_ns()
    for name, pool in pools.items():

        def note(one: Arrival, name: str = name) -> None:
            offered.append((name, one.number, time.monotonic_ns() - begun - one.intended_ns))

        pool.offer = note  # type: ignore[method-assign] # watches what the dispatcher does
    live = LiveFigures()
    Dispatcher([schedule("a", 200, 0.3), schedule("b", 70, 0.3)], pools, live).run(begun)
    assert [number for name, number, _ in offered if name == "a"] == list(range(60))
    assert [number for name, number, _ in offered if name == "b"] == list(range(21))
    assert min(late for _, _, late in offered) >= 0
    live.fold()
    assert live.offered == {"a": 60, "b": 21}
    assert live.late <= sum(late > 50_000_000 for _, _, late in offered)


def test_a_dispatcher_that_is_behind_lets_users_run(crew: list[Worker]) -> None:
    """When everything is due at once, users get to work between arrivals instead of after the last one."""
    pool = Pool(1)
    crew.append(Worker(pool))
    settle()
    live = LiveFigures()
    watched: list[int] = []

    def watch() -> None:
        while live.offered["t"] < 5000:
            watched.append(len(crew[0].got))
            gevent.sleep(0)

    watcher = gevent.spawn(watch)
    Dispatcher([schedule("t", 50_000, 0.1)], {"t": pool}, live).run(time.monotonic_ns() - 10**9)
    watcher.kill()
    assert max(watched) > 0
    assert live.late == 5000, "lateness counts at the offer, whether or not a user ever sends"


@settings(max_examples=settings.default.max_examples // 20)
@given(st.integers(1, 7), st.integers(1, 200))
def test_shares_of_several_workers_are_the_whole(workers: int, rate: int) -> None:
    """Worker i of n offers its share; together they offer every arrival once."""
    seen: list[int] = []
    for worker in range(workers):
        pool = Pool(1)
        share = Partition(Stride(0, worker, workers), last=True)
        Dispatcher([schedule("t", rate, 1.0)], {"t": pool}, LiveFigures(), share).run(time.monotonic_ns() - 10**10)
        seen += [each.number for each in pool.backlog]
    assert sorted(seen) == list(range(rate))


def test_a_pool_that_runs_short_of_idle_users_says_so_until_it_may_grow_no_longer(crew: list[Worker]) -> None:
    """Each arrival that leaves few idle tells it; at its cap there is nothing left to ask for."""
    pool = Pool(4, cap=5)
    asked: list[int] = []
    pool.on_scarce = lambda: asked.append(pool.size)
    crew += [Worker(pool, busy=60) for _ in range(4)]
    settle()
    for number in range(5):
        pool.offer(arrival(number))
    assert asked == [4, 4, 4], "a half of four had better be idle"
    pool.size += 1
    pool.offer(arrival(5))
    assert len(asked) == 3


def test_a_full_pool_counts_who_waited_and_for_how_long(crew: list[Worker]) -> None:
    """Arrivals that find nobody idle are counted; what is still waiting has waited until now."""
    pool = Pool(1)
    crew.append(Worker(pool, busy=0.01))
    settle()
    pool.offer(arrival(0))
    settle()
    assert pool.figures(time.monotonic_ns()).waited == 0
    for number in (1, 2):
        pool.offer(arrival(number))
    while not pool.quiet:
        gevent.sleep(0.002)
    fared = pool.figures(time.monotonic_ns())
    assert (fared.started, fared.size, fared.cap, fared.waited) == (1, 1, 1, 2)
    # The second had to let the first pass, and something was waiting all the while.
    assert 10 <= fared.longest_wait_ms <= fared.full_s * 1000 + 1
    crew[0].greenlet.kill()
    pool.offer(arrival(3))
    later = pool.figures(time.monotonic_ns() + 10**9)
    assert later.waited == 3
    assert later.longest_wait_ms >= 1000
    assert later.full_s >= fared.full_s + 1


def test_a_closed_pool_lets_nobody_wait(crew: list[Worker]) -> None:
    """What an abort left unsent waited for no user."""
    pool = Pool(1)
    pool.close()
    pool.offer(arrival(0))
    fared = pool.figures(time.monotonic_ns())
    assert (fared.waited, fared.full_s, fared.longest_wait_ms) == (0, 0, 0)
