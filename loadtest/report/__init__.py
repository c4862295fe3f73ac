"""Reports of a run: terminal, HTML, Markdown and plots. ``python -m loadtest.report RUN_DIR`` makes all."""
