"""What we add to Locust's web UI: a guard before every route, and pages of our own."""

from collections.abc import Callable

from locust.web import WebUI

from loadtest.load.engine import Engine
from loadtest.load.web.guard import guard
from loadtest.load.web.live_page import add_live_page


def extend(web_ui: WebUI, engine: Engine, *, check: Callable[[str], object]) -> None:
    """Guard Locust's web UI, and add our pages to it. Called once, before it serves.

    Args:
        web_ui: Locust's; its ``environment`` is the one whose runs the engine conducts.
        engine: conducts the runs that the UI starts.
        check: raises InputError for a base URL that may not be loaded.
    """
    guard(web_ui, check)
    add_live_page(web_ui, engine)
