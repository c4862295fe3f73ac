"""The web UI is closed to all but its own pages, and to targets that may not be loaded.

Locust answers any Host and any Origin, so that a page from anywhere, open in the same browser, could start load (by a
cross-origin POST to ``/swarm``, or after rebinding its own name to 127.0.0.1).
"""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import flask
from locust.web import WebUI

from loadtest.errors import InputError

_OWN_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def guard(web_ui: WebUI, check: Callable[[str], object]) -> None:
    """Refuse foreign Hosts and Origins, and targets that may not be loaded.

    Args:
        web_ui: Locust's.
        check: raises InputError for a base URL that may not be loaded.
    """
    if web_ui.app is not None:
        web_ui.app.before_request(lambda: _refuse(check))


def _refuse(check: Callable[[str], object]) -> flask.Response | None:
    request = flask.request
    if _name(request.host) not in _OWN_NAMES:
        return _answer(403, f"this page is served to 127.0.0.1 and localhost only, not to {request.host}")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        return _answer(403, "requests from pages of other origins are refused")
    # A page elsewhere can make a browser GET without saying its origin; coming here by a link is harmless.
    if request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"} and (
        request.path != "/" or request.headers.get("Sec-Fetch-Mode") != "navigate"
    ):
        return _answer(403, "requests from other sites are refused")
    if request.method == "POST" and "host" in request.form:
        try:
            check(request.form["host"])
        except InputError as error:
            return _answer(400, str(error))
    return None


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _answer(status: int, message: str) -> flask.Response:
    response = flask.jsonify({"success": False, "message": message})
    response.status_code = status
    return response
