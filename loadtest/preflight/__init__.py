"""Checks of a target before it is loaded, and the requests of a probe. Only this room imports httpx."""
