"""A run on several processes: one master that conducts, and workers that offer, over Locust's own connection."""
