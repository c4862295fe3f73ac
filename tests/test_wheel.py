"""The package as it is built: it brings the scenarios and the API's document, for those who have no checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_package_brings_the_scenarios(tmp_path: Path) -> None:
    """Outside a checkout scenarios are listed, found by name with their inputs, and copied."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    away = tmp_path / "away"
    away.mkdir()

    def loadtest(*arguments: str) -> str:
        return subprocess.check_output(
            [sys.executable, "-m", "loadtest.cli", *arguments],
            cwd=away,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
            text=True,
        )

    document = Path("loadtest", "reference_api", "openapi.yaml")
    assert (tmp_path / "installed" / document).read_bytes() == (ROOT / document).read_bytes()
    listed = {line.split()[0] for line in loadtest("scenarios").splitlines()}
    assert listed == {path.stem for path in (ROOT / "scenarios").glob("*.toml")}
    assert f"{tmp_path}/installed/loadtest/scenarios/backoff.toml: ok" in loadtest("validate", "backoff")
    loadtest("init", "--copy", "backoff")
    assert (away / "scenarios" / "backoff.jsonl").read_bytes() == (ROOT / "scenarios" / "backoff.jsonl").read_bytes()
