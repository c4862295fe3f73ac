"""Checks of a target before it is loaded. They run in a separate process, and only this room imports httpx."""
