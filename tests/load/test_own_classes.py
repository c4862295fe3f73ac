"""What goes wrong in a user class of one's own is said with its file and line."""

import subprocess
import sys
from typing import Any

from plugins.processes import clean_environment

RAISES = """
import sys
from loadtest.load.users import SyncRunUser


class Mine(SyncRunUser):
    def perform(self, operation):
        super().perform(operation)
        assert "pandas" not in sys.modules, "it takes 60 MB"
        if operation.arrival.number >= 3:
            operation.begin("run")
"""

MODULES = {
    "fails": "import locust\n\n\nsettings = {}\nsettings['missing']\n",
    "broken": "def (:\n",
    "lacks": "import no_such_library\n",
    "misses": "class Other:\n    pass\n",
}
EXPECTED = {
    "absent:Mine": "there is no module 'absent' in",
    "fails:Mine": "your module (fails.py:5) raised KeyError: 'missing'",
    "broken:Mine": "your module (broken.py:1) raised SyntaxError",
    "lacks:Mine": "your module (lacks.py:1) raised ModuleNotFoundError: No module named 'no_such_library'",
    "misses:Othar": "misses has no class 'Othar'; did you mean 'Other'?",
    "misses:Other": "is not a subclass of SyncRunUser",
}
ASK = """
import sys
from pathlib import Path
from loadtest.contract import DOCUMENTED
from loadtest.load.users import user_classes
from loadtest.plan import AssumedLimits, traffic_plans
from loadtest.errors import InputError
from loadtest.scenario import load_scenario

for user in sys.argv[2:]:
    scenario = load_scenario(Path(sys.argv[1]), [f'traffic.heard.user="{user}"']).scenario
    plans = traffic_plans(scenario, AssumedLimits(DOCUMENTED), 1)
    try:
        user_classes(scenario, plans, Path(sys.argv[1]).parent)
    except InputError as error:
        print(error.message)
"""


def test_an_error_in_an_own_class_ends_the_run_with_its_line(offer: Any, open_api: Any) -> None:
    """Which line raised what; what was recorded until then is kept, and it is not called our error."""
    (offer.folder / "mine.py").write_text(RAISES)
    run = offer(
        offer.scenario(offer.entry("heard", "sync_run", "200/s", "10s", 'user = "mine:Mine"\n')), open_api.url
    ).wait()
    assert run.process.returncode == 0, run.log
    assert run.info.end == "aborted"
    assert run.info.end_reason.startswith("your class Mine (mine.py:11) raised TypeError: ")
    assert 3 <= [row["outcome"] for row in run.operations].count("ok") < 2000
    assert run.log.count("Traceback") == 2, "Locust's and that of the end, however many raised"


def test_a_class_that_cannot_be_used_is_said(offer: Any) -> None:
    """Whether it is not there, or its module fails: the module's own line."""
    path = offer.folder / "s.toml"
    path.write_text(offer.scenario(offer.entry("heard", "sync_run", "20/s", "1s")))
    for name, text in MODULES.items():
        (offer.folder / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(path), *EXPECTED],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    said = done.stdout.splitlines()
    assert len(said) == len(EXPECTED)
    for (user, sentence), line in zip(EXPECTED.items(), said, strict=True):
        assert f"traffic.heard.user = {user!r}" in line
        assert sentence in line
