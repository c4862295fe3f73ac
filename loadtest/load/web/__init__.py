"""What we add to Locust's web UI: a guard before every route, and pages of our own."""

from locust.web import WebUI

from loadtest.load.engine import Engine
from loadtest.load.plain.locust_test import LocustTest
from loadtest.load.plain.reports import Reports
from loadtest.load.web.guard import guard
from loadtest.load.web.live_page import add_live_page
from loadtest.load.web.locust_pages import extend_pages


def extend(web_ui: WebUI, engine: Engine, *, test: LocustTest, reports: Reports) -> None:
    """Guard Locust's web UI, and add our pages to it. Called once, before it serves."""
    guard(web_ui, engine, test)
    extend_pages(web_ui, engine, test, reports)
    add_live_page(web_ui, engine, reports)
