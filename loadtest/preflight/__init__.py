"""Checks of a target before it is loaded. The checks are a separate process; only this room imports httpx."""
