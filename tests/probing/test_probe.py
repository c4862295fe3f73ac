import pytest

from loadtest.limiters import LimiterSpec
from loadtest.probing.results import standing, verdict
from loadtest.units import Limit
from tests.probing.simulation import one_limiter, probed

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
        assert (found.word == "named") == (len(found.standing) == 1)
        assert found.requests <= 4 * MINUTE.count
        if found.word == "named":
            assert verdict(found) == "as documented"
