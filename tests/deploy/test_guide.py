"""deploy/README.md: what it names is there."""

import re

from plugins.deploy_parts import DEPLOY

GUIDE = (DEPLOY / "README.md").read_text(encoding="utf-8")


def test_its_paths_are_there() -> None:
    """Files and folders of its table, and of its commands."""
    named = re.findall(r"deploy/([\w./-]*\w)", GUIDE) + re.findall(r"`(kubernetes/[\w./-]+)`", GUIDE)
    assert len(set(named)) > 8
    assert not [name for name in named if not (DEPLOY / name).exists()]


def test_its_keys_are_those_of_the_secret_and_of_compose() -> None:
    """A file of keys as it is written there is taken by both."""
    (block,) = re.findall(r"```text\n((?:WORKFLOW_\w+=.*\n)+)```", GUIDE)
    keys = [line.partition("=")[0] for line in block.splitlines()]
    for name in ("kubernetes/secret.example.yaml", "compose.yaml"):
        text = (DEPLOY / name).read_text(encoding="utf-8")
        assert all(re.search(rf"^ +{key}:", text, re.MULTILINE) for key in keys)
