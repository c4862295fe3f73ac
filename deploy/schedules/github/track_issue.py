"""Keep one issue while an API stays slower.

Two regressed checks in a row open the issue; a check that passes or learns anew closes it.
Call ``track_issue.py HISTORY.jsonl`` where ``gh`` is logged in. It needs only Python's standard library.
"""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

LABEL = "loadtest-regression"


def checks(lines: list[str]) -> list[tuple[str, str]]:
    """Return the verdict and sentence of each check of a history in order; a check has those of its last rerun."""
    runs = [line for line in map(json.loads, lines) if line["line"] == "run"]
    runs.sort(key=lambda line: datetime.fromisoformat(line["recorded"]))
    last: dict[str, tuple[str, str]] = {}
    for line in runs:
        last[line.get("confirms") or line["run"]["run"]] = (line["verdict"], line.get("sentence", ""))
    return list(last.values())


def gh(*arguments: str) -> str:
    """Return the output of ``gh``.

    Raises:
        subprocess.CalledProcessError: if ``gh`` fails; it has printed the reason.
    """
    return subprocess.run(["gh", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S607 - of the runner


def main(path: Path) -> None:
    """Open the issue, close it, or leave it as it is."""
    found = checks(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else []
    title = f"Load test {path.stem}: the API is slower, or refuses more"  # open issues are found by it
    listed = gh("issue", "list", "--label", LABEL, "--state", "open", "--json", "number,title", "--limit", "100")
    numbers = [str(issue["number"]) for issue in json.loads(listed) if issue["title"] == title]
    verdicts = [verdict for verdict, _ in found[-2:]]
    if verdicts == ["regressed", "regressed"] and not numbers:
        gh("label", "create", LABEL, "--force", "--color", "B60205", "--description", "Found by a load test")
        body = "\n".join(["Confirmed by two checks in a row:", "", *(f"- {sentence}" for _, sentence in found[-2:])])
        gh("issue", "create", "--title", title, "--label", LABEL, "--body", body)
    elif verdicts and verdicts[-1] in {"pass", "learning"}:
        # The check learns again because a user has accepted the change.
        for number in numbers:
            gh("issue", "close", number, "--comment", f"The latest check: {verdicts[-1]}. {found[-1][1]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
