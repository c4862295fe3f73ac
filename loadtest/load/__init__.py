"""The load generator. Only this room imports gevent and Locust, which patches the whole interpreter."""
