"""Epochs: whatever workers do and whenever they hear of it, every arrival has exactly one worker that may send it."""

from hypothesis import given
from hypothesis import strategies as st

from loadtest.load.dispatcher import Assignment, Share
from loadtest.load.distributed.assignment import EpochPlan, Proposal, Roster

MARGIN = 50
SILENT_FOR = 25
"""A lost worker stops by itself this long after it was cut off..."""
LOST_AFTER = 30
"""...and is believed lost this long after it."""


class Member:
    """A worker of a simulated run: it offers one moment after the other, as its share lets it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.share = Share()
        self.sent: list[int] = []
        """Moments that it offered."""
        self.cut_off: int | None = None
        self._now: Assignment | None = None
        self._at = 0

    def heard(self, order: Proposal | EpochPlan) -> bool:
        """Take an order; whether a proposal is accepted."""
        if isinstance(order, Proposal):
            return self.share.stop_at(order.cut_ns)
        place = order.workers.index(self.name) if self.name in order.workers else 0
        self.share.assign(Assignment(order.from_ns, place, len(order.workers) if self.name in order.workers else 0))
        return True

    def offer(self, now: int, done: int) -> None:
        """Offer what is due, from where it stopped, as the dispatcher does."""
        if self.cut_off is not None and now - self.cut_off > SILENT_FOR:
            return
        while True:
            ended = self._now is None or self._at >= min(self.share.until_ns, done)
            if ended and self.share.superseded:
                self._now = self.share.take()
                self._at = self._now.from_ns
            elif ended or self._at > now:
                return
            else:
                if self._now is not None and self._now.of and self._at % self._now.of == self._now.place:
                    self.sent.append(self._at)
                    self.share.reached_ns = self._at
                self._at += 1


def simulate(workers: int, events: list[tuple[int, str, int]], delays: list[int], length: int = 600) -> None:
    """Run a schedule of one arrival per moment under joins, leaves and losses at moments, and check who sent what."""
    roster = Roster()
    members = {f"w{number}": Member(f"w{number}") for number in range(workers)}
    for name in members:
        roster.join(name)
    mail: list[tuple[int, int, str, object]] = []
    posted = 0

    def post(now: int, to: str, what: object) -> None:
        nonlocal posted
        posted += 1
        # One connection each: nothing overtakes anything.
        earliest = max([when for when, _, whom, _ in mail if whom == to], default=0)
        mail.append((max(earliest, now + delays[posted % len(delays)]), posted, to, what))

    first = roster.begin()
    for member in members.values():
        member.heard(first)
    lost: set[str] = set()
    for now in range(length + 400):
        for when, what, which in events:
            if when != now:
                continue
            alive = [name for name in members if members[name].cut_off is None and name in roster.wanted]
            if what == "join":
                name = f"j{now}-{which}"
                members[name] = Member(name)
                roster.join(name)
            elif len(alive) > 1 and what == "leave":
                roster.leave(alive[which % len(alive)], gone=False)
            elif len(alive) > 1:
                members[alive[which % len(alive)]].cut_off = now
        for name, member in members.items():
            if member.cut_off is not None and name not in lost and now - member.cut_off >= LOST_AFTER:
                lost.add(name)
                roster.leave(name, gone=True)
        for item in sorted(each for each in mail if each[0] <= now):
            mail.remove(item)
            to, what = item[2], item[3]
            if to == "master":
                name, number, reached, accepted = what  # type: ignore[misc]
                roster.answer(name, number, reached, accepted=accepted)
            elif members[to].cut_off is None:
                accepted = members[to].heard(what)  # type: ignore[arg-type]
                if isinstance(what, Proposal):
                    post(now, "master", (to, what.number, members[to].share.reached_ns, accepted))
        order = roster.step(now, MARGIN, set(members) - lost)
        if isinstance(order, Proposal):
            for name in order.waiting:
                post(now, name, order)
        elif order is not None:
            for name in members:
                post(now, name, order)
        for member in members.values():
            member.offer(now, length)
    check(roster, members, length)


def check(roster: Roster, members: dict[str, Member], length: int) -> None:
    """Nothing was sent twice, and what nobody sent was a lost worker's."""
    sent: dict[int, str] = {}
    for name, member in members.items():
        for moment in member.sent:
            assert moment not in sent, f"{moment} was sent by {sent[moment]} and by {name}"
            sent[moment] = name
    starts = [epoch.from_ns for epoch in roster.epochs]
    assert starts == sorted(set(starts))
    for moment in set(range(length)) - sent.keys():
        epoch = [epoch for epoch in roster.epochs if epoch.from_ns <= moment][-1]
        owner = members[epoch.workers[moment % len(epoch.workers)]]
        assert owner.cut_off is not None, f"{moment} was {owner.name}'s, who is well, and was not sent"


happenings = st.lists(
    st.tuples(st.integers(1, 500), st.sampled_from(["join", "leave", "lose"]), st.integers(0, 5)), max_size=8
)


@given(st.integers(1, 4), happenings, st.lists(st.integers(0, 90), min_size=1, max_size=7))
def test_the_union_is_exact_whatever_happens(
    workers: int, events: list[tuple[int, str, int]], delays: list[int]
) -> None:
    """Also where a cut is heard of too late, and where somebody is lost while one is being agreed on."""
    simulate(workers, events, delays)


def test_a_cut_that_came_too_late_is_proposed_again() -> None:
    """A worker that has passed the cut says so, and nothing begins before everybody agrees."""
    roster = Roster()
    roster.join("a")
    roster.begin()
    roster.join("b")
    first = roster.step(1000, 50, {"a", "b"})
    assert isinstance(first, Proposal)
    assert (first.cut_ns, first.waiting) == (1050, {"a"})
    assert roster.step(1010, 50, {"a", "b"}) is None
    roster.answer("a", first.number, 1077, accepted=False)
    second = roster.step(1100, 50, {"a", "b"})
    assert isinstance(second, Proposal)
    assert second.cut_ns > 1100
    roster.answer("a", first.number, 0, accepted=True)
    assert roster.step(1110, 50, {"a", "b"}) is None, "an answer to the first proposal says nothing of the second"
    roster.answer("a", second.number, 1090, accepted=True)
    epoch = roster.step(1120, 50, {"a", "b"})
    assert epoch == EpochPlan(epoch.number, second.cut_ns, ("a", "b"))  # type: ignore[union-attr]


def test_without_a_change_nothing_is_told() -> None:
    """And a worker that came and went meanwhile is no change."""
    roster = Roster()
    roster.join("a")
    roster.begin()
    assert roster.step(10, 5, {"a"}) is None
    roster.join("b")
    roster.leave("b", gone=False)
    assert roster.step(11, 5, {"a"}) is None
