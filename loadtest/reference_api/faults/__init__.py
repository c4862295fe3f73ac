"""Injection of faults into the server (see ``loadtest.faults``). A server without faults does not use this package."""
