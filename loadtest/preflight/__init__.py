"""Checks of a target before it is loaded, in a separate process. The only room for httpx."""
