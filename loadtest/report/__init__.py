"""Showing what the analysis found: terminal, HTML, Markdown, plots. ``python -m loadtest.report RUN_DIR`` makes all."""
