import math

import numpy as np
import pytest

from loadtest.limits import LimiterSpec, make
from loadtest.limits.probing.evidence import ProbeAnswer, ProbeEvidence, Volley, Who
from loadtest.limits.probing.models import Bucket, every_model
from loadtest.limits.probing.results import HeadedAnswer, retry_after, scope, standing, stated_limits, verdict
from loadtest.units import Limit
from tests.limits.probing.simulation import lazily_synced, one_limiter, probed, replicas, shared_with_others

MINUTE = Limit(100, 60.0)
SPECS = [
    LimiterSpec("fixed-window"),
    LimiterSpec("fixed-window-from-first"),
    LimiterSpec("sliding-log"),
    LimiterSpec("sliding-log", count_rejected=True),
    LimiterSpec("sliding-counter"),
    LimiterSpec("sliding-counter", count_rejected=True),
    LimiterSpec("token-bucket"),
    LimiterSpec("token-bucket", 20),
    LimiterSpec("token-bucket", 20, count_rejected=True),
    LimiterSpec("gcra", 5),
    LimiterSpec("leaky-queue", 20),
]


def key_of(spec: LimiterSpec) -> tuple[str, bool]:
    """The model that decides as a limiter does."""
    bucket = spec.algorithm in {"gcra", "leaky-queue"}
    return ("token-bucket" if bucket else spec.algorithm), spec.count_rejected


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.algorithm}-{spec.burst}-{spec.count_rejected}")
def test_the_true_limiter_is_never_set_aside(spec: LimiterSpec) -> None:
    """Whatever answers, its model stands at the end with its numbers inside what is said; named, it is the only one."""
    for seed in range(2):
        found = probed(one_limiter(spec, MINUTE), MINUTE, seed)
        true = [model for model in found.standing if model.key == key_of(spec)]
        assert true, found
        shown = standing(true[0], MINUTE, held=found.held)
        assert shown.count[0] <= 100 <= shown.count[1]
        assert shown.window_s[0] <= 60 <= shown.window_s[1]
        assert found.word != "named" or len(found.standing) == 1
        assert found.requests <= 4 * MINUTE.count
        if found.word == "named":
            assert verdict(found) == "as documented"


@pytest.mark.parametrize("share", [0.1, 0.4])
@pytest.mark.parametrize(
    "spec", [LimiterSpec("fixed-window"), LimiterSpec("sliding-log"), LimiterSpec("token-bucket", 20)]
)
def test_somebody_elses_traffic_gives_no_wrong_number(spec: LimiterSpec, share: float) -> None:
    """A quota on which others draw at random is never said to be another one."""
    for seed in range(2):
        found = probed(shared_with_others(spec, MINUTE, share, seed), MINUTE, seed)
        assert verdict(found) in {"can't tell", "as documented"}, standing(found.standing[0], MINUTE, held=False)


def test_several_servers_that_count_for_themselves_are_no_known_limiter() -> None:
    """Neither replicas nor counters that are synced late are taken for a limiter that they are not."""
    for seed in range(2):
        for server in (
            replicas(LimiterSpec("fixed-window"), Limit(33, 60.0), 3, seed),
            replicas(LimiterSpec("sliding-log"), MINUTE, 2, seed),
            lazily_synced(MINUTE, 3, 3.0, seed),
        ):
            assert probed(server, MINUTE, seed).word != "named"


@pytest.mark.parametrize(("count", "said"), [(50, "stricter"), (100, "as documented"), (150, "can't tell")])
def test_a_limit_is_compared_with_the_documentation(count: int, said: str) -> None:
    """Another count is named; it is looser only if more passed than the documented limit accepts at any phase."""
    found = probed(one_limiter(LimiterSpec("fixed-window"), Limit(count, 60.0)), MINUTE, 1)
    assert verdict(found) == said
    assert found.standing[0].count() == (count, count)


@pytest.mark.parametrize(
    ("count", "burst", "more"), [(30, math.inf, False), (31, math.inf, True), (12, 10, True), (11, 10, False)]
)
def test_only_accepted_requests_exceed_a_limit(count: int, burst: float, more: bool) -> None:
    """10 per s in 1.1 s: three windows of any phase, or a bucket of 10 with 1 refilled; a rejection changes nothing."""
    answers = [ProbeAnswer(0.0, 0.1, True), *[ProbeAnswer(0.1, 1.1, True)] * (count - 1), ProbeAnswer(0.1, 9.0, False)]
    seen = ProbeEvidence()
    seen.add([Volley(0.0, 9.0, count + 1, count)], [answers])
    limit = Limit(10, 1.0) if math.isinf(burst) else Limit(1, 1.0)
    assert seen.exceeds(limit, burst) == more


@pytest.mark.parametrize("spec", [LimiterSpec(), LimiterSpec("token-bucket", 20)], ids=lambda spec: spec.algorithm)
def test_whose_requests_share_a_quota_is_seen(spec: LimiterSpec) -> None:
    """Another key and another limit are asked right after the quota was used up, before anything comes back."""

    def shared_by(*sharing: Who) -> dict[Who, bool | None]:
        return probed(one_limiter(spec, MINUTE, sharing), MINUTE, 3, others=("other limit", "other key")).shared

    assert scope(shared_by()) == "key-and-name"
    assert scope(shared_by("other key")) == "name"
    assert scope(shared_by("other limit")) == "key"
    assert scope(shared_by("other key", "other limit")) == "global"


@pytest.mark.parametrize("spec", [LimiterSpec("token-bucket", 5), LimiterSpec("gcra")], ids=lambda spec: spec.algorithm)
def test_whose_requests_share_a_bucket_that_refills_at_once_is_seen(spec: LimiterSpec) -> None:
    """What 100 a second leave in a network's 50 ms says nothing: streams that others send, too, do."""
    limit = Limit(600, 6.0)
    for sharing in (("other key",), ("other limit",)):
        limiter = one_limiter(spec, limit, sharing)
        found = probed(limiter, limit, 3, others=("other limit", "other key"))
        assert found.shared == {who: who in sharing for who in ("other limit", "other key")}
        assert found.requests <= 5.5 * limit.count


@pytest.mark.parametrize("rejected", [False, True])
def test_a_bucket_that_refills_within_the_networks_jitter_is_fitted(rejected: bool) -> None:
    """Streams tell the rate of a bucket that no volley finds empty, and whether refused requests count."""
    limit = Limit(500, 10.0)
    found = probed(one_limiter(LimiterSpec("token-bucket", 5, rejected), limit), limit, 1)
    assert found.standing[0].key == ("token-bucket", rejected)
    assert found.word == "named"
    shown = standing(found.standing[0], limit, held=found.held)
    assert shown.count[0] <= 500 <= shown.count[1] <= 1.05 * shown.count[0]
    assert verdict(found) == "as documented"


@pytest.mark.parametrize("seed", range(3))
def test_what_others_leave_of_a_quota_is_not_named(seed: int) -> None:
    """A small bucket on which others draw is neither another bucket nor short windows."""
    found = probed(shared_with_others(LimiterSpec("token-bucket", 5), MINUTE, 0.1, seed), MINUTE, seed)
    assert verdict(found) in {"can't tell", "as documented"}
    assert found.word != "named" or found.standing[0].algorithm == "token-bucket"


def test_where_nothing_is_refused_no_limit_is_claimed() -> None:
    """A server without a limit: the probe ends, and says that nothing was rejected."""
    found = probed(lambda _now, _who: (True, 0.0), MINUTE, 1)
    assert found.word == "unlimited"
    assert found.why == f"none of {found.requests} requests were rejected"
    assert verdict(found) == "can't tell"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.algorithm}-{spec.burst}-{spec.count_rejected}")
def test_replays_decide_as_limiters_do(spec: LimiterSpec) -> None:
    """Volleys of one and of many requests pass as they do one by one, for each clock that is ahead."""
    limit, chance = Limit(20, 2.0), np.random.default_rng(1)
    model = next(model for model in every_model(limit, [2.0], 0.6) if model.key == key_of(spec))
    burst = spec.burst or (1 if spec.algorithm == "gcra" else limit.count)
    count = burst if isinstance(model, Bucket) else limit.count
    shifts = np.array([[0.0, 0.3]]) if model.aligned else np.zeros((1, 2))
    window = 1 / limit.rate if isinstance(model, Bucket) else limit.window
    replay = model.kind(
        np.full((1, 2), float(count)), np.full((1, 2), window), shifts, count_rejected=spec.count_rejected
    )
    limiters, now = [make(spec, limit) for _ in range(2)], 1000.0
    for turn in range(300):
        if turn == 150:  # as experiments are foreseen
            replay = replay.taken(np.zeros(2, int), np.arange(2))
        now += chance.choice([0.05, 0.11, 0.4, 1.3])
        size = int(chance.choice([1, 1, 2, 7, 30]))
        wanted = [
            sum(limiter.decide(now + shift).allowed for _ in range(size))
            for limiter, shift in zip(limiters, shifts[0], strict=True)
        ]
        if turn < 150:
            assert replay.volley(np.full(2, now), size).tolist() == [wanted]
        else:
            assert replay.volley(np.array([now]), size).tolist() == [[each] for each in wanted]


@pytest.mark.parametrize("rejected", [False, True])
def test_a_true_limiter_is_likelier_than_one_that_bounds_alone_do_not_exclude(rejected: bool) -> None:
    """Windows of a second beside a clock that is off by half of it: what was seen tells a log from a counter."""
    limit = Limit(500, 1.0)
    found = probed(one_limiter(LimiterSpec("sliding-log", count_rejected=rejected), limit), limit, 1)
    assert [model.key for model in found.standing] == [("sliding-log", rejected)]
    assert verdict(found) == "as documented"


def test_a_queue_is_seen_by_how_long_it_holds_requests() -> None:
    """Who is let through ever later waits in a queue."""
    assert probed(one_limiter(LimiterSpec("leaky-queue", 20), MINUTE), MINUTE, 1).held
    assert not probed(one_limiter(LimiterSpec("token-bucket", 20), MINUTE), MINUTE, 1).held


def told(*answers: tuple[float, bool, dict[str, str]]) -> list[HeadedAnswer]:
    """Answers that took no time."""
    return [HeadedAnswer(at, at, refused, headers) for at, refused, headers in answers]


def test_waits_are_compared_with_when_room_came() -> None:
    """A Retry-After is too short if a request was refused after it, too long if one passed a second before its end."""
    honest = told((0, True, {"retry-after": "5"}), (4, True, {}), (5, False, {}))
    assert retry_after(honest) == "1 of 2 rejections have one; none is contradicted"
    short = told((0, True, {"retry-after": "1"}), (4, True, {}), (5, False, {}))
    assert "1 were too short" in retry_after(short)
    long = told((0, True, {"retry-after": "30"}), (4, True, {}), (5, False, {}))
    assert "1 too long" in retry_after(long)


def test_rate_limit_fields_are_read_as_the_draft_has_them() -> None:
    """Quota, unit, window and partition key; a promise of room that is broken at once is counted."""
    policy = '"burst";q=100;qu="requests";w=60;pk=:c3BhbQ==:, "daily";q=1000;w=86400'
    answers = told((0, False, {"ratelimit-policy": policy, "ratelimit": '"burst";r=50;t=30'}), (1, True, {}))
    words = stated_limits(answers)
    assert "RateLimit-Policy burst: 100 requests per 60 s, for a partition (pk)" in words
    assert "RateLimit-Policy daily: 1000 requests per 86400 s" in words
    assert "of 1 that promised room, 1 were followed by a rejection" in words
