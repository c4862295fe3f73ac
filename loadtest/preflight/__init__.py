"""Looks at a target before it is loaded, in a process of its own. The only room for httpx."""
