"""A run on several processes: a master conducts it, and workers offer its arrivals, over Locust's connection."""
