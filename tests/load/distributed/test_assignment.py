"""Assignments: whatever workers do and whenever they hear of it, an arrival has exactly one worker that may send it."""

from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.dispatcher import Partition, Stride
from loadtest.load.distributed.assignment import Assigner, Assignment, Reassignment

MARGIN = 50
SILENT_FOR = 25
"""A lost worker stops by itself this long after it was cut off..."""
LOST_AFTER = 30
"""...and is believed lost this long after it."""


class Member:
    """A worker of a simulated run: it offers one moment after the other, as its share lets it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.partition = Partition()
        self.sent: list[int] = []
        """Moments that it offered."""
        self.cut_off: int | None = None
        self._now: Stride | None = None
        self._at = 0

    def heard(self, order: Reassignment | Assignment) -> bool:
        """Take an order; whether a proposal is accepted."""
        if isinstance(order, Reassignment):
            return self.partition.stop_at(order.cut_ns)
        place = order.workers.index(self.name) if self.name in order.workers else 0
        self.partition.assign(Stride(order.from_ns, place, len(order.workers) if self.name in order.workers else 0))
        return True

    def offer(self, now: int, done: int) -> None:
        """Offer what is due, from where it stopped, as the dispatcher does."""
        if self.cut_off is not None and now - self.cut_off > SILENT_FOR:
            return
        while True:
            ended = self._now is None or self._at >= min(self.partition.until_ns, done)
            if ended and self.partition.superseded:
                self._now = self.partition.take()
                self._at = self._now.from_ns
            elif ended or self._at > now:
                return
            else:
                if self._now is not None and self._now.step and self._at % self._now.step == self._now.place:
                    self.sent.append(self._at)
                    self.partition.reached_ns = self._at
                self._at += 1


def simulate(workers: int, events: list[tuple[int, str, int]], delays: list[int], length: int = 600) -> None:
    """Run a schedule of one arrival per moment under joins, leaves and losses at moments, and check who sent what."""
    assigner = Assigner()
    members = {f"w{number}": Member(f"w{number}") for number in range(workers)}
    for name in members:
        assigner.join(name)
    mail: list[tuple[int, int, str, object]] = []
    posted = 0

    def post(now: int, to: str, what: object) -> None:
        nonlocal posted
        posted += 1
        # One connection each: nothing overtakes anything.
        earliest = max([when for when, _, whom, _ in mail if whom == to], default=0)
        mail.append((max(earliest, now + delays[posted % len(delays)]), posted, to, what))

    first = assigner.assign(0)
    for member in members.values():
        member.heard(first)
    lost: set[str] = set()
    for now in range(length + 400):
        for when, what, which in events:
            if when != now:
                continue
            alive = [name for name in members if members[name].cut_off is None and name in assigner.wanted]
            if what == "join":
                name = f"j{now}-{which}"
                members[name] = Member(name)
                assigner.join(name)
            elif len(alive) > 1 and what == "leave":
                assigner.leave(alive[which % len(alive)], gone=False)
            elif len(alive) > 1:
                members[alive[which % len(alive)]].cut_off = now
        for name, member in members.items():
            if member.cut_off is not None and name not in lost and now - member.cut_off >= LOST_AFTER:
                lost.add(name)
                assigner.leave(name, gone=True)
        for item in sorted(each for each in mail if each[0] <= now):
            mail.remove(item)
            to, what = item[2], item[3]
            if to == "master":
                name, number, reached, accepted = what  # type: ignore[misc]
                assigner.answer(name, number, reached, accepted=accepted)
            elif members[to].cut_off is None:
                accepted = members[to].heard(what)  # type: ignore[arg-type]
                if isinstance(what, Reassignment):
                    post(now, "master", (to, what.number, members[to].partition.reached_ns, accepted))
        order = assigner.step(now, MARGIN, set(members) - lost)
        if isinstance(order, Reassignment):
            for name in order.waiting:
                post(now, name, order)
        elif order is not None:
            for name in members:
                post(now, name, order)
        for member in members.values():
            member.offer(now, length)
    check(assigner, members, length)


def check(assigner: Assigner, members: dict[str, Member], length: int) -> None:
    """Nothing was sent twice, and what nobody sent was a lost worker's."""
    sent: dict[int, str] = {}
    for name, member in members.items():
        for moment in member.sent:
            assert moment not in sent, f"{moment} was sent by {sent[moment]} and by {name}"
            sent[moment] = name
    starts = [assignment.from_ns for assignment in assigner.assignments]
    assert starts == sorted(set(starts))
    for moment in set(range(length)) - sent.keys():
        assignment = [assignment for assignment in assigner.assignments if assignment.from_ns <= moment][-1]
        owner = members[assignment.workers[moment % len(assignment.workers)]]
        assert owner.cut_off is not None, f"{moment} was {owner.name}'s, who is well, and was not sent"


happenings = st.lists(
    st.tuples(st.integers(1, 500), st.sampled_from(["join", "leave", "lose"]), st.integers(0, 5)), max_size=8
)


@given(st.integers(1, 4), happenings, st.lists(st.integers(0, 90), min_size=1, max_size=7))
def test_the_union_is_exact_whatever_happens(workers, events, delays):
    """Also where a cut is heard of too late, and where somebody is lost while one is being agreed on."""
    simulate(workers, events, delays)


def test_a_cut_that_came_too_late_is_proposed_again() -> None:
    """A worker that has passed the cut says so, and nothing begins before everybody agrees."""
    assigner = Assigner()
    assigner.join("a")
    assigner.assign(0)
    assigner.join("b")
    first = assigner.step(1000, 50, {"a", "b"})
    assert isinstance(first, Reassignment)
    assert (first.cut_ns, first.waiting) == (1050, {"a"})
    assert assigner.step(1010, 50, {"a", "b"}) is None
    assigner.answer("a", first.number, 1077, accepted=False)
    second = assigner.step(1100, 50, {"a", "b"})
    assert isinstance(second, Reassignment)
    assert second.cut_ns > 1100
    assigner.answer("a", first.number, 0, accepted=True)
    assert assigner.step(1110, 50, {"a", "b"}) is None, "an answer to the first proposal says nothing of the second"
    assigner.answer("a", second.number, 1090, accepted=True)
    assignment = assigner.step(1120, 50, {"a", "b"})
    assert assignment == Assignment(assignment.number, second.cut_ns, ("a", "b"))  # type: ignore[union-attr]


def test_without_a_change_nothing_is_told() -> None:
    """And a worker that came and went meanwhile is no change."""
    assigner = Assigner()
    assigner.join("a")
    assigner.assign(0)
    assert assigner.step(10, 5, {"a"}) is None
    assigner.join("b")
    assigner.leave("b", gone=False)
    assert assigner.step(11, 5, {"a"}) is None
