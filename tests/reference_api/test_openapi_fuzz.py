"""schemathesis over the server: requests made of ``openapi.yaml``, right and wrong, and links that are followed."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from plugins.openapi_answers import DOCUMENT


@pytest.mark.heavy
def test_what_the_document_allows_is_answered_as_it_says(server: Any, tmp_path: Path) -> None:
    """Server and document agree on every request that was made of the document, and on every answer.

    Each phase sent requests; each operation gave each answer that requests alone can bring about.
    """
    from plugins.openapi_fuzz import fuzz  # noqa: PLC0415 - see there

    found = fuzz(server.url, tmp_path)
    assert not found.problems, "\n\n".join(found.problems)
    assert set(found.phases.values()) == {"success"}
    assert found.cases.keys() == {"examples", "coverage", "fuzzing", "stateful"}
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    assert found.statuses.keys() == operations.keys()
    # What takes more: a limit that is exceeded, a body of 64 KiB, a server that breaks or stops.
    apart = {"413", "429", "500", "503"}
    for label, operation in operations.items():
        wanted = {int(status) for status in operation["responses"].keys() - apart} | {405}
        assert wanted <= found.statuses[label].keys(), label
    assert found.statuses["POST /v1/workflows/run"][500], "no run failed"
    assert found.followed[200] >= settings.default.max_examples // 20, "jobs are retrieved by the ids of their submits"
    assert found.checks.keys() == found.known, "all checks were made"
