"""schemathesis over the server: requests made of ``openapi.yaml``, right and wrong, and links that are followed."""

from typing import Any

import pytest
from hypothesis import settings
from plugins.openapi_answers import DOCUMENT


@pytest.fixture(scope="module")
def found(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What schemathesis found out about a server process."""
    from plugins.openapi_fuzz import fuzz  # noqa: PLC0415 - see there

    return fuzz(server.url, tmp_path_factory.mktemp("schemathesis"))


def test_nothing_is_wrong(found: Any) -> None:
    """Server and document agree on every request that was made of the document, and on every answer."""
    assert not found.problems, "\n\n".join(found.problems)
    assert set(found.phases.values()) == {"success"}


def test_everything_was_asked_for(found: Any) -> None:
    """Each phase sent requests; each operation gave each answer that requests alone can bring about."""
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
