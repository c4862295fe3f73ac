"""The interface between load and analysis: samples, ``run.json`` and run directories."""

__all__ = [
    "blocks", "effective_scenario", "figures", "generator_limits", "progress", "run_directory", "run_info", "samples",
]  # fmt: skip
