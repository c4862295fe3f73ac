"""Workflows: which there are, how a request's parameters reach their functions, and how these are executed."""
