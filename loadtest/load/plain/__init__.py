"""Plain Locust: what its command line and its web UI say, and the runs that they start."""
