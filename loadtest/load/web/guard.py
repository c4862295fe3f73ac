"""The web UI is closed to all but its own pages, and starts only what may, and can, be started.

Locust answers any Host and any Origin, so that a page from anywhere, open in the same browser, could start load (by a
cross-origin POST to ``/swarm``, or after rebinding its own name to 127.0.0.1).
"""

from typing import Final
from urllib.parse import urlsplit

import flask

from loadtest.errors import LoadtestError
from loadtest.load.engine import Engine
from loadtest.load.plain.locust_test import LocustTest
from loadtest.program import pasteable

_OWN_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_HEADERS: Final = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_NO_FRAMES: Final = "frame-ancestors 'none'"


def guard(app: flask.Flask, engine: Engine, test: LocustTest) -> None:
    """Refuse foreign Hosts and Origins, frames, and starts of what may not, or cannot, be started."""
    looking = False

    def refuse_start() -> flask.Response | None:
        """Answer for Locust where it must not act; its page shows the message."""
        nonlocal looking
        endpoint = flask.request.endpoint
        if endpoint == "locust.update_user":
            return _answer(403, "what users do is written in the scenario")
        if endpoint != "locust.swarm":
            return None
        # Locust's page shows a message only of an answer that is 200.
        if engine.phase != "over" or looking:
            return _answer(200, "A run is under way, or about to begin: stop it first.")
        looking = True
        try:
            test.set_from(flask.request.form)
        except LoadtestError as error:
            return _answer(200, pasteable(f"{error.message}. {error.remedy}".strip()))
        finally:
            looking = False
        return None

    app.before_request(lambda: _refuse_strangers() or refuse_start())
    app.after_request(_close_frames)


def _refuse_strangers() -> flask.Response | None:
    request = flask.request
    if not is_own(request.host):
        return _answer(403, f"this page is served to 127.0.0.1 and localhost only, not to {request.host}")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        return _answer(403, "requests from pages of other origins are refused")
    # A page elsewhere can make a browser GET without saying its origin; coming here by a link is harmless, if it leads
    # to the page itself, and not to one of the things that it is made of.
    by_link = request.method == "GET" and request.endpoint == "locust.index"
    by_link = by_link and request.headers.get("Sec-Fetch-Mode") == "navigate"
    if request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"} and not by_link:
        return _answer(403, "requests from other sites are refused")
    return None


def _close_frames(response: flask.Response) -> flask.Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    policy = response.headers.get("Content-Security-Policy")
    if policy is None or "frame-ancestors" not in policy:
        response.headers["Content-Security-Policy"] = f"{policy}; {_NO_FRAMES}" if policy else _NO_FRAMES
    return response


def is_own(host: str) -> bool:
    """Whether a ``Host`` is a name of this machine, so that no other name was led here."""
    try:
        return urlsplit(f"//{host}").hostname in _OWN_NAMES
    except ValueError:
        return False


def _answer(status: int, message: str) -> flask.Response:
    response = flask.jsonify({"success": False, "message": message})
    response.status_code = status
    return response
