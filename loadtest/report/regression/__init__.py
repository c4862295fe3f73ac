"""Showing what a comparison found: HTML, Markdown, terminal, files for CI; each is made of ``comparison.json`` alone.

``python -m loadtest.report.regression DIR`` makes all of them.
"""
