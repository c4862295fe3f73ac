"""The output of a run: samples, ``run.json`` and the run directory. ``load`` writes it, and ``analysis`` reads it."""

__all__ = [
    "blocks", "effective_scenario", "figures", "generator_limits", "progress", "run_directory", "run_info", "samples",
]  # fmt: skip
