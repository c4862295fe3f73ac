"""What Locust's web UI has of ours: a guard before every route, pages of our own, and ``/metrics``."""
