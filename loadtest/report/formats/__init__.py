"""A finished report as HTML, Markdown, terminal text, and files for CI systems."""
