import resource
from pathlib import Path

import msgspec
import pytest

from loadtest.contract import LimitName
from loadtest.errors import InputError
from loadtest.limits import LimiterSpec
from loadtest.limits.probing.probe import stated
from loadtest.limits.probing.results import LimitFinding, Standing, known
from loadtest.plan import AssumedLimits
from loadtest.prepare import assumed_limits_of
from loadtest.scenario import load_scenario
from loadtest.targets import choose, entry_named, save_limits
from loadtest.units import Limit

ENTRY = """# who may be loaded
[mine]
url = "http://127.0.0.1:8000" # near
environment = "test"
owner = "me"
limits = { sync_run = "7/60s" }
max_share = "50%"
"""


def found(limit: LimitName, verdict: str, *standing: Standing) -> LimitFinding:
    """A finding; its keys share the quota."""
    return LimitFinding(
        limit=limit, documented=(500, 60.0), verdict=verdict, standing=list(standing), requests=9, rejected=1,
        seconds=3.0, stated=stated(standing), scope="name",
    )  # type: ignore[arg-type]  # fmt: skip


def bucket(count: float) -> Standing:
    """A token bucket of 20."""
    return Standing(
        algorithm="token-bucket", count_rejected=False, count=(count, count), window_s=(60.0, 60.0), burst=(20, 20)
    )


def test_what_was_found_is_assumed_from_then_on(tmp_path: Path) -> None:
    """Limits and how they are counted are in the entry, its comments and other keys stay, and runs assume them."""
    path = tmp_path / "targets.toml"
    path.write_text(ENTRY)
    limits, limiter = known([found(LimitName.RETRIEVAL, "as documented", bucket(500.0))])
    save_limits(path, "mine", limits, limiter)
    written = path.read_text()
    assert "# who may be loaded" in written
    assert "# near" in written
    chosen = choose(None, "mine", path)
    assumed = assumed_limits_of(load_scenario(Path("scenarios/within-limits.toml")), chosen)
    assert assumed.limits[LimitName.RETRIEVAL] == Limit(500, 60.0)
    assert assumed.limits[LimitName.SYNC_RUN] == Limit(7, 60.0)
    assert assumed.spec == LimiterSpec("token-bucket", 20, scope="name")
    assert entry_named(path, "mine").max_share == 0.5
    assert isinstance(assumed, AssumedLimits)


def test_what_another_client_could_cause_is_not_known() -> None:
    """A stricter limit and an uncertain one are not saved, and then no algorithm is assumed for all limits."""
    limits, limiter = known(
        [
            found(LimitName.RETRIEVAL, "as documented", bucket(499.0)),
            found(LimitName.ASYNC_SUBMIT, "stricter", bucket(300.0)),
            found(LimitName.SYNC_RUN, "can't tell", bucket(100.0), bucket(90.0)),
        ]
    )
    assert limits == {LimitName.RETRIEVAL: Limit(500, 60.0)}
    assert limiter is None
    assert known([found(LimitName.RETRIEVAL, "looser", bucket(700.0))]) == ({}, None)


def test_an_unknown_rounding_stays_as_it_is() -> None:
    """Limiters that differ only in it are shown in different words, and the entry's value is kept."""
    exact = bucket(500.0)
    down = msgspec.structs.replace(exact, round_down=True)
    assert exact.words != down.words
    for kept in (True, False):
        _, limiter = known([found(LimitName.RETRIEVAL, "as documented", exact, down)], round_down=kept)
        assert limiter is not None
        assert limiter.round_down == kept


def test_an_entry_that_is_not_there_is_named(tmp_path: Path) -> None:
    """And the file stays as it was."""
    path = tmp_path / "targets.toml"
    path.write_text(ENTRY)
    with pytest.raises(InputError, match="there is no target 'mina'"):
        save_limits(path, "mina", {LimitName.SYNC_RUN: Limit(5, 1.0)}, None)
    assert path.read_text() == ENTRY


def test_a_full_disk_costs_no_entry(tmp_path: Path) -> None:
    """The file stays as it was, and the error names it."""
    path = tmp_path / "targets.toml"
    path.write_text(ENTRY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(InputError, match=r"targets\.toml: cannot be written: File too large"):
            save_limits(path, "mine", {LimitName.SYNC_RUN: Limit(5, 1.0)}, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == ENTRY
    assert list(tmp_path.iterdir()) == [path]


def test_a_limiter_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """A burst for a fixed window is told with file and entry."""
    path = tmp_path / "targets.toml"
    path.write_text(ENTRY + "burst = 3\n")
    with pytest.raises(InputError, match="has no burst"):
        entry_named(path, "mine")
