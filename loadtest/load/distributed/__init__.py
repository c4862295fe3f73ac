"""A run on several processes. A master conducts the run, workers offer its arrivals, and Locust connects them."""
