import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.http_headers import remaining, stated_limits
from loadtest.limits import LimiterSpec
from loadtest.limits.probing.evidence import ProbeAnswer, ProbeEvidence, Volley, Who
from loadtest.limits.probing.results import Standing, facts, rate_limit_headers, retry_after
from loadtest.units import Limit
from tests.limits.probing.simulation import lazily_synced, one_limiter, probed, replicas, shared_with_others

MINUTE = Limit(100, 60.0)
SMALL = Limit(8, 10.0)
"""A probe of it takes about 1.5 s, a tenth of the time of larger limits, which bench/ probes."""
one = settings(max_examples=settings.default.max_examples // 40)
"""One case, drawn anew in each run; CI has room for five, which is all of them."""
SPECS = [
    LimiterSpec("fixed-window-from-first"),
    LimiterSpec("sliding-log"),
    LimiterSpec("sliding-counter"),
    LimiterSpec("token-bucket", 4, count_rejected=True),
    LimiterSpec("leaky-queue", 4),
    LimiterSpec("sliding-counter-from-first"),
    LimiterSpec("token-bucket", 4, round_down=True),
]


def key_of(spec: LimiterSpec) -> tuple[str, bool]:
    """The model that decides as a limiter does."""
    bucket = spec.algorithm == "gcra"
    return ("token-bucket" if bucket else spec.algorithm), spec.count_rejected


def key(standing: Standing) -> tuple[str, bool]:
    """A standing limiter's name, and whether it counts rejected requests."""
    return standing.algorithm, standing.count_rejected


@settings(max_examples=settings.default.max_examples // 20)
@given(st.sampled_from(SPECS))
def test_the_true_limiter_stands_with_its_numbers(spec: LimiterSpec) -> None:
    """The true model stands, and the shown ranges contain its numbers (N within 2 %). A named model stands alone."""
    found = probed(one_limiter(spec, SMALL), SMALL, 1)
    shown = [each for each in found.standing if key(each) == key_of(spec)]
    assert shown, found
    assert any(one.count[0] <= 8 * 1.02 and one.count[1] >= 8 * 0.98 for one in shown)
    assert any(one.window_s[0] <= 10 <= one.window_s[1] for one in shown)
    assert found.why or {key(each) for each in found.standing} == {key_of(spec)}
    assert found.requests <= 5.5 * SMALL.count
    assert found.verdict in {"as documented", "can't tell"}
    assert found.held == (spec.algorithm == "leaky-queue")


def test_another_clients_traffic_makes_a_limit_no_looser() -> None:
    """A quota that another client uses, too, may seem stricter, but never larger."""
    spec = LimiterSpec("sliding-log")
    found = probed(shared_with_others(spec, SMALL, 0.2, 1), SMALL, 1)
    assert found.verdict in {"can't tell", "as documented", "stricter"}, found.stated
    assert found.why or key(found.standing[0]) == key_of(spec)


def test_another_clients_traffic_makes_no_smaller_burst() -> None:
    """A counter half of which another client uses answers like a bucket of fifteen, which is then not named."""
    spec, limit = LimiterSpec("sliding-counter", round_down=True), Limit(20, 60.0)
    found = probed(shared_with_others(spec, limit, 0.5, 21001), limit, 21001)
    assert found.why == "another client may have used a part of the limit"


@one
@given(st.sampled_from(["replicas", "counters synced late"]))
def test_several_servers_that_count_for_themselves_are_no_other_limiter(servers: str) -> None:
    """Replicas and counters that are synced late are not taken for a limiter that none of them has."""
    alone = replicas(LimiterSpec(), Limit(4, 10.0), 2, 1)
    found = probed(alone if servers == "replicas" else lazily_synced(SMALL, 3, 1.0, 1), SMALL, 1)
    assert found.why or found.standing[0].algorithm == "fixed-window", found.stated


@one
@given(
    st.sampled_from(
        [
            (Limit(16, 10.0), SMALL, "stricter"),
            (Limit(20, 60.0), Limit(20, 10.0), "looser"),
            (Limit(40, 60.0), SMALL, "other"),
        ]
    )
)
def test_a_limits_numbers_are_stated_even_against_the_documentation(case: tuple[Limit, Limit, str]) -> None:
    """The stated N is the real N within one request, W is exact, and the verdict compares them with the documented."""
    documented, real, said = case
    found = probed(one_limiter(LimiterSpec("fixed-window"), real), documented, 1)
    numbers = found.stated
    assert numbers is not None
    assert numbers.count[0] - 1 <= real.count <= numbers.count[1] + 1
    assert numbers.window_s == real.window
    assert found.verdict == said


@pytest.mark.parametrize(("count", "more"), [(30, False), (31, True)])
def test_only_accepted_requests_exceed_a_limit(count: int, more: bool) -> None:
    """10 per s in 1.1 s: three windows of any phase accept up to 30."""
    answers = [ProbeAnswer(0.0, 0.1, True), *[ProbeAnswer(0.1, 1.1, True)] * (count - 1), ProbeAnswer(0.1, 9.0, False)]
    seen = ProbeEvidence()
    seen.answers = answers
    seen.experiments = [[Volley(np.array([each.sent for each in answers]), np.full(count + 1, 9.0), count)]]
    assert seen.exceeds(Limit(10, 1.0)) == more


def test_what_was_accepted_is_counted_whatever_the_limiter_is() -> None:
    """By documented window, in a row without a pause, and between the first and the last rejection."""
    seen = ProbeEvidence()
    for at, passed in ((0.0, True), (0.05, True), (0.2, False), (0.6, False), (1.1, True), (1.2, False)):
        seen.answers.append(ProbeAnswer(at, at + 0.01, passed))
    accepted = seen.facts(Limit(2, 1.0))
    assert accepted.windows == [(2, 4), (1, 2)]
    assert accepted.longest_burst == 2
    assert accepted.sustained is not None
    assert accepted.sustained[0] == 1
    assert accepted.sustained[1] == pytest.approx(1.0)


def test_whose_requests_share_a_quota_is_seen() -> None:
    """The probe sends with another key and on another limit right after it has used up the quota.

    The fixed windows behind them stand.
    """
    limit = Limit(20, 10.0)
    found = probed(one_limiter(LimiterSpec(), limit, ("other key",)), limit, 1, others=("other limit", "other key"))
    assert found.shared == {"other key": True, "other limit": False}
    assert key_of(LimiterSpec()) in {key(each) for each in found.standing}


def test_where_nothing_is_refused_it_exceeds_the_documented_limit() -> None:
    """A server without a limit: more was accepted than the documented limit accepts, and no number is stated."""
    found = probed(lambda _now, _who: (True, 0.0), MINUTE, 1)
    assert not found.rejected
    assert found.stated is None
    assert found.verdict == "looser"


def test_a_ban_is_described_as_what_was_seen() -> None:
    """Nothing passes after the first 12 requests: a longer window, or a ban."""
    left = [12]

    def banned(_now: float, _who: Who) -> tuple[bool, float]:
        left[0] -= 1
        return left[0] >= 0, 0.0

    found = probed(banned, Limit(20, 60.0), 1)
    assert found.stated is None
    assert any("after 12 accepted requests nothing was accepted" in each for each in found.seen)


def told(*answers: tuple[float, bool, dict[str, str]]) -> list[ProbeAnswer]:
    """Answers that took no time."""
    return [ProbeAnswer(at, at, not refused, headers=headers) for at, refused, headers in answers]


def test_waits_are_compared_with_when_room_came() -> None:
    """A Retry-After is too short if a request was refused after it, too long if one passed a second before its end."""
    honest = told((0, True, {"retry-after": "5"}), (4, True, {}), (5, False, {}))
    assert retry_after(honest) == "1 of 2 rejections have one; none is contradicted"
    short = told((0, True, {"retry-after": "1"}), (4, True, {}), (5, False, {}))
    assert "1 were too short" in retry_after(short)
    long = told((0, True, {"retry-after": "30"}), (4, True, {}), (5, False, {}))
    assert "1 too long" in retry_after(long)


@pytest.mark.parametrize(
    ("headers", "limits", "left"),
    [
        ({"ratelimit-policy": "50;w=5"}, [(50, 5.0)], None),
        ({"ratelimit-limit": '100, 100;w=60;comment="x"', "ratelimit-remaining": "3"}, [(100, 60.0)], 3),
        ({"ratelimit": "limit=100, remaining=50, reset=30"}, [(100, None)], 50),
        ({"ratelimit-policy": '"a";q=100;w=60, "b";q=9;w=1', "ratelimit": '"a";r=5;t=3'}, [(100, 60.0), (9, 1.0)], 5),
        ({"x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "x-other": "7"}, [(60, None)], 0),
        ({"x-rate-limit-limit": "many", "retry-after": "9"}, [(None, None)], None),
    ],
)
def test_rate_limit_headers_are_read_in_every_form(
    headers: dict[str, str], limits: list[tuple[int | None, float | None]], left: int | None
) -> None:
    """Counts and windows of X-RateLimit-* and of each draft, and the requests that are left."""
    assert [(each.count, each.window_s) for each in stated_limits(headers)] == limits
    assert remaining(headers) == left


def test_a_broken_promise_of_room_is_counted() -> None:
    """Quota, unit, window and partition key are shown; a promise of room that is broken at once is counted."""
    policy = '"burst";q=100;qu="requests";w=60;pk=:c3BhbQ==:, "daily";q=1000;w=86400'
    answers = told((0, False, {"ratelimit-policy": policy, "ratelimit": '"burst";r=50;t=30'}), (1, True, {}))
    words = rate_limit_headers(answers)
    assert "burst: 100 requests per 60 s, for a partition (pk)" in words
    assert "daily: 1000 requests per 86400 s" in words
    assert "of 1 answers that promised room, 1 were followed by a rejection" in words


def test_a_window_longer_than_the_probe_is_not_stated() -> None:
    """8 per minute, documented as 8 per second: the probe ends after 8 s, states no number, and lists no limiters."""
    found = probed(one_limiter(LimiterSpec("sliding-log"), Limit(8, 60.0)), Limit(8, 1.0), 1)
    assert found.stated is None
    assert any(each.window_s[1] >= 60 for each in found.standing)
    assert len(found.standing) > 4
    assert not any(each.algorithm in dict(facts(found))["limiter"] for each in found.standing)
