"""``python -m loadtest.preflight``: one preflight. Reads its order from standard input, writes its answer as JSON.

Keys and endpoint come from the environment.
"""

import sys
from typing import Any

import msgspec

from loadtest.credentials import credentials
from loadtest.errors import LoadtestError
from loadtest.http_headers import user_agent
from loadtest.preflight.checks import Probe
from loadtest.preflight.exchange import Asker
from loadtest.record.run_info import TlsInfo
from loadtest.scenario import Scenario
from loadtest.targets import allow
from loadtest.targets.connection import header_values, tls_context
from loadtest.targets.request_budget import first_workflow

_TIMEOUT = 10.0


class PreflightOrder(msgspec.Struct, kw_only=True):
    """What to look at."""

    url: str
    listed: bool
    """Whether an entry allows a host that is not loopback."""
    scenario: dict[str, Any]
    tls: TlsInfo | None = None
    headers: dict[str, str] = {}
    """As ``TargetInfo`` has both."""


def main(order: PreflightOrder) -> bytes:
    """Make the preflight.

    Raises:
        LoadtestError: if the target may not be asked.
    """
    scenario = Scenario.model_validate(order.scenario)
    keys, endpoint = credentials()
    target = allow(order.url, listed=order.listed)
    traffic = first_workflow(scenario)
    headers = {"x-wf-endpoint": endpoint, "user-agent": user_agent("preflight")}
    headers |= header_values(order.headers)
    timeout = max(_TIMEOUT, traffic.timeout if traffic else 0.0)
    with Asker(target, headers, timeout, tls_context(order.tls)) as asker:
        return msgspec.json.encode(Probe(asker, keys, scenario).run())


if __name__ == "__main__":
    try:
        sys.stdout.buffer.write(main(msgspec.json.decode(sys.stdin.buffer.read(), type=PreflightOrder)))
    except LoadtestError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(int(error.exit_code))
