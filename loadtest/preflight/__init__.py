"""Looks at a target before it is loaded. The only room for httpx; a process of its own."""
