"""Workflows: their functions, the binding of a request's parameters, and their execution."""
