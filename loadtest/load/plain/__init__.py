"""Runs started by plain Locust: its options, its web UI's form, its process."""
