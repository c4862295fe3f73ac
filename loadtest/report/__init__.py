"""Reports of a run: terminal text, HTML, Markdown and plots. ``python -m loadtest.report RUN_DIR`` makes them."""
