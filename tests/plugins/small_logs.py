"""Small access logs and HAR files with requests to the Workflow API, for tests of imports."""

import gzip
import json
from pathlib import Path

COMBINED = (
    '192.0.2.7 - bob [10/Oct/2025:15:55:3{second} +0200] "POST /api/v1/workflows/run HTTP/1.1" {status} 120 "-" "py"\n'
)
"""A line of Apache's and nginx's default format."""
HAR = {"log": {"version": "1.2", "entries": [{
    "startedDateTime": "2025-10-10T13:55:36.000Z", "time": 12.5,
    "request": {"method": "POST", "url": "http://api.example/v1/workflows/run", "headers": []},
    "response": {"status": 200, "headers": []},
}]}}  # fmt: skip


def write_log(path: Path) -> None:
    """Write a log. Its name selects the format: HAR, or lines in Apache's default format, which ``.gz`` compresses."""
    lines = "".join(COMBINED.format(second=second, status=200) for second in range(10))
    text = (json.dumps(HAR) if path.suffix == ".har" else lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
