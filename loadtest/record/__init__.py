"""What a run leaves: its samples, ``run.json`` and its directory. The interface between load and analysis."""
