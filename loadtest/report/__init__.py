"""Reports as terminal text, HTML, Markdown and plots. ``python -m loadtest.report RUN_DIR`` makes a run's report."""
