"""Links in README, docs and code lead to files and headings that exist."""

import re
import subprocess
from pathlib import Path

from plugins.pages import DOCUMENTS, ROOT


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing(link: str, folder: Path) -> bool:
    """Whether a link leads to no file of this repository, or to no heading of it."""
    name, _, anchor = link.partition("#")
    path = folder / name
    return not path.exists() or bool(anchor and anchor not in anchors(path))


def test_every_link_leads_somewhere() -> None:
    """Links and pictures of the documents lead to files and headings that exist."""
    others = [ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    others += [ROOT / name / "README.md" for name in ("bench", "deploy", "reports")]
    for document in (*DOCUMENTS, *others):
        for link in re.findall(r"\]\((?!http)([^)\s]+)\)", document.read_text(encoding="utf-8")):
            there = f"{document.name}{link}" if link.startswith("#") else link
            assert not missing(there, document.parent), f"{document.name}: {link}"


def test_every_page_that_is_named_exists() -> None:
    """Messages, comments, templates and notebooks name pages and headings that exist."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    named = set()
    for name in listed:
        if name.endswith((".py", ".toml", ".yml", ".yaml", ".md", ".service", "Jenkinsfile", "Makefile")):
            text = (ROOT / name).read_text(encoding="utf-8")
            named |= {(name, page) for page in re.findall(r"\b((?:docs|bench|deploy)/[\w-]+\.md(?:#[\w-]+)?)", text)}
    assert len(named) > 30
    assert [(name, page) for name, page in sorted(named) if missing(page, ROOT)] == []
