"""The output of a run, which load writes and analysis reads: samples, ``run.json`` and run directory."""

__all__ = [
    "blocks",
    "effective_scenario",
    "figures",
    "generator_limits",
    "log_source",
    "progress",
    "run_directory",
    "run_info",
    "samples",
]
