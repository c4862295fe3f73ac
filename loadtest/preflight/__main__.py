"""``python -m loadtest.preflight``: one preflight. Reads a ``PreflightOrder`` as JSON, writes a ``Preflight`` as JSON.

Keys and endpoint come from the environment.
"""

import atexit
import gc
import sys
from typing import Final

import msgspec

from loadtest.credentials import credentials
from loadtest.errors import LoadtestError
from loadtest.http_headers import user_agent
from loadtest.preflight.checks import Checks
from loadtest.preflight.client import PreflightClient
from loadtest.scenario import Scenario
from loadtest.targets import PreflightOrder, allow, first_workflow, header_values, tls_context

_LEAST_TIMEOUT: Final = 10.0


def main(order: PreflightOrder) -> bytes:
    """Make the preflight.

    Raises:
        LoadtestError: if the target may not be loaded.
    """
    scenario = Scenario.model_validate(order.scenario)
    keys, endpoint = credentials()
    target = allow(order.url, listed=order.listed)
    traffic = first_workflow(scenario)
    headers = {"x-wf-endpoint": endpoint, "user-agent": user_agent("preflight")}
    headers |= header_values(order.headers)
    timeout = max(_LEAST_TIMEOUT, traffic.timeout if traffic else 0.0)
    with PreflightClient(target, headers, timeout, tls_context(order.tls)) as client:
        return msgspec.json.encode(Checks(client, keys, scenario).run())


if __name__ == "__main__":
    atexit.register(gc.freeze)  # as in loadtest.report
    try:
        sys.stdout.buffer.write(main(msgspec.json.decode(sys.stdin.buffer.read(), type=PreflightOrder)))
    except LoadtestError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(int(error.exit_code))
