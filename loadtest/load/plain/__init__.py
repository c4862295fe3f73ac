"""Runs that plain Locust starts, with its options, the form of its web UI, and its process."""
