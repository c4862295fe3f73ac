"""The targets that deploy/ comes with: read as they are, and wide enough for what is run on them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from plugins.deploy_parts import DEPLOY

from loadtest.plan import traffic_plans
from loadtest.prepare import assumed_limits_of
from loadtest.scenario import find_scenario, load_scenario
from loadtest.targets import (
    ChosenTarget,
    Target,
    check_request_budget,
    load_targets,
    minimum_load,
    preflight_load,
    repeated,
)

ROOT = DEPLOY.parent


@pytest.mark.parametrize("scenario", ["within-limits", "regression"])
@pytest.mark.parametrize(("file", "name"), [("targets.toml", "reference"), ("kubernetes/base/targets.toml", "staging")])
def test_the_scenario_that_is_run_stays_inside_the_leash(file, name, scenario, monkeypatch):
    """Whoever takes the files as they are gets a run, not a refusal; no name is resolved for this."""
    monkeypatch.chdir(ROOT)
    path = DEPLOY / file
    entry = load_targets(path)[name]
    scheme, host, port = entry.server
    target = Target(entry.url, scheme, "192.0.2.1", host, host, port, "", loopback=False)
    chosen = ChosenTarget(name, entry, path, target=target)
    loaded = load_scenario(find_scenario(scenario))
    belief = assumed_limits_of(loaded, chosen)
    once = minimum_load(loaded.scenario, traffic_plans(loaded.scenario, belief, 1))
    demand = repeated(once, [0.0], preflight_load(loaded.scenario, 1))
    leash = check_request_budget(chosen, demand, belief.limits, keys=1, now=datetime.now(UTC))
    assert leash.name == name
    # Retries and polls that no plan can know fit, too.
    assert demand.requests * 2 < (leash.max_requests or 0)


def test_the_entry_that_is_commented_out_is_a_valid_one(tmp_path: Path) -> None:
    """Uncommented, it is read."""
    lines = (DEPLOY / "targets.toml").read_text(encoding="utf-8").splitlines()
    uncommented = "\n".join(line.removeprefix("# ") for line in lines[lines.index("# [staging]") :])
    (tmp_path / "targets.toml").write_text(uncommented, encoding="utf-8")
    assert list(load_targets(tmp_path / "targets.toml")) == ["staging"]
