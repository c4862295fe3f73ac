"""The load generator. Only this room imports Locust, which patches the whole interpreter, and gevent."""
