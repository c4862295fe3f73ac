"""Our additions to Locust's web UI: a guard before every route, additional pages, and ``/metrics``."""
