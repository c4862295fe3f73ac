"""Checks of a target before it is loaded. The checks run in a separate process; only this room imports httpx."""
