"""Code blocks in the pages of the documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    """Return a text's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(document: Path) -> list[str]:
    """Return the commands of a page, without comments."""
    lines = [line for block in blocks(document.read_text(encoding="utf-8"), "sh") for line in block.splitlines()]
    return [command for line in lines if (command := line.partition("  #")[0].strip())]


def shown(document: Path) -> dict[str, str]:
    """Return the files that a page shows: blocks that begin with a file's name."""
    text = document.read_text(encoding="utf-8")
    found = re.findall(r"^```(?:toml|python)\n# ([\w./-]+\.(?:toml|py))\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return dict(found)
