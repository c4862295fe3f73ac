"""The output of a run: samples, ``run.json`` and run directory. The interface between load and analysis."""

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
