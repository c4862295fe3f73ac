"""Files that a scenario names: nothing outside of a schema is read, and none that has no end."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugins.stubs import Stub

from loadtest.errors import InputError
from loadtest.load.payloads import Matcher, read_inputs, read_job_ids, read_schema


@pytest.mark.parametrize("place", ["$ref", "properties.a.$ref", "prefixItems.0.$ref"])
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_schema_leads_nowhere(tmp_path: Path, stub: Callable[..., Stub], place: str, scheme: str) -> None:
    """Not to a host, whether or not targets.toml has it, nor to another file; file and key are named."""
    (tmp_path / "other.json").write_text("{}")
    server = stub(lambda *_: (200, {}))
    uri = f"{server.url}/other.json" if scheme == "http" else (tmp_path / "other.json").as_uri()
    schema: Any = f"{uri}#/a"
    for name in reversed(place.split(".")):
        schema = [schema] if name == "0" else {name: schema}
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    with pytest.raises(InputError) as caught:
        read_schema(path)
    assert caught.value.message.startswith(f"{path}: $.{place} refers to '{uri}'")
    assert "$defs" in caught.value.remedy
    assert server.asked == []


def test_references_within_a_schema_hold(tmp_path: Path) -> None:
    """To its definitions, by place and by name."""
    path = tmp_path / "schema.json"
    schema = {
        "$id": "https://example.test/result",
        "$defs": {"n": {"type": "integer"}, "s": {"$id": "text", "type": "string"}},
        "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "text"}},
    }
    path.write_text(json.dumps(schema))
    matcher = Matcher(None, read_schema(path))
    assert matcher.matches({"a": 1, "b": "x"})
    assert not matcher.matches({"a": "x", "b": "x"})
    assert not matcher.matches({"a": 1, "b": 1})


@pytest.mark.parametrize(
    ("read", "key"),
    [(read_inputs, "inputs"), (lambda path: read_job_ids(path, 1), "job_ids"), (read_schema, "result_schema")],
)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_may_have_no_end_is_not_read(tmp_path: Path, read: Callable[[Path], Any], key: str, kind: str) -> None:
    """A sentence that names the key, at once."""
    path = tmp_path / "x.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match=f"cannot read {key} from .*: it is not a regular file"):
        read(path)
