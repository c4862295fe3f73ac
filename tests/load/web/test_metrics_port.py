"""``--metrics-port``: a run without a web UI serves its figures."""

from typing import Any

import httpx
from plugins.processes import until
from prometheus_client.parser import text_string_to_metric_families


def test_a_run_without_a_web_ui_serves_them(offer: Any, open_api: Any, free_port: int) -> None:
    """While it goes on, on loopback and to own names only."""
    text = offer.scenario(offer.entry("t", "sync_run", "40/s", "30s"))
    run = offer(text, open_api.url, "--metrics-port", str(free_port))
    url, more = f"http://127.0.0.1:{free_port}/metrics", {"trust_env": False, "verify": False, "timeout": 20}

    def counted() -> dict[str, float] | None:
        try:
            families = text_string_to_metric_families(httpx.get(url, **more).text)
        except httpx.TransportError:
            return None
        found = {sample.name: sample.value for family in families for sample in family.samples}
        return found if found.get("loadtest_requests_total", 0) >= 20 else None

    until(lambda: run.epoch)
    assert until(counted)["loadtest_arrivals_offered_total"] >= 20
    assert httpx.get(url, headers={"Host": "evil.example"}, **more).status_code == 403
    assert httpx.get(url.removesuffix("metrics"), **more).status_code == 404
    run.process.terminate()
    assert run.wait().info.end == "interrupted"
