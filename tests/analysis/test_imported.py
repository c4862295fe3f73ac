"""The limit that a log shows is stated if the log excludes other counts; a wrong limit is never stated."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from loadtest.analysis.run_record import load_record
from loadtest.contract import LimitName
from loadtest.limits import LimiterSpec, make
from loadtest.logs.importing import ImportOptions, import_logs
from loadtest.units import Limit

BEGIN = 1_760_000_003.0
LIMIT = Limit(20, 10.0)


def clause(folder: Path, form: str, *, shared: bool, rate: float, stated: bool = True, seconds: float = 120) -> str:
    """What is said of a log of two clients of a fixed window, which they share or have each."""
    random = np.random.Generator(np.random.PCG64(7))
    times = BEGIN + np.cumsum(random.exponential(1 / rate, round(seconds * rate)))
    limiters = [make(LimiterSpec("fixed-window"), LIMIT) for _ in range(2)]
    log = folder / "access.log"
    with log.open("w") as file:
        for at in times.tolist():
            key = int(random.integers(2))
            status = 200 if limiters[0 if shared else key].decide(at).allowed else 429
            if form == "json":
                line = {"msec": f"{at + 0.02:.3f}", "request_time": "0.020", "status": str(status), "key": f"k{key}"}
                file.write(json.dumps(line | {"request": "POST /v1/workflows/run HTTP/1.1"}) + "\n")
            else:
                stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))
                file.write(f'10.0.0.{key} - - [{stamp}] "POST /v1/workflows/run HTTP/1.1" {status} 9\n')
    limits = {LimitName.SYNC_RUN: LIMIT} if stated else {}
    directory = import_logs([str(log)], folder / "reports", ImportOptions(limits=limits))
    record = load_record(directory)
    (found,) = record.logged_limits.values()
    return found.words


@pytest.mark.parametrize(
    ("form", "shared", "rate", "expected"),
    [
        ("json", False, 9.0, "20 per 10 s on sync_run, as documented"),
        ("json", True, 6.0, "20 per 10 s on sync_run over all 2 keys, as documented"),
        ("json", False, 0.5, "no limit was reached on sync_run; at most"),
        ("combined", False, 6.0, "20 per 10 s on sync_run, as documented"),
        ("combined", False, 3.0, "can't tell the limit on sync_run: stamps of whole seconds"),
    ],
)
def test_a_logs_limit(tmp_path: Path, form: str, *, shared: bool, rate: float, expected: str) -> None:
    """With milliseconds the count and its scope are stated; whole seconds need more 429s."""
    assert clause(tmp_path, form, shared=shared, rate=rate).startswith(expected)


def test_a_limit_that_is_not_documented(tmp_path: Path) -> None:
    """Without ``--limit`` the answer proposes the option that explains the 429s."""
    words = clause(tmp_path, "json", shared=False, rate=9.0, stated=False, seconds=60)
    assert words.startswith("can't tell the limit on sync_run")
    assert "--limit sync_run=20/10s" in words
