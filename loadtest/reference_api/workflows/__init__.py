"""Workflows: their functions, their parameters, and their execution."""
