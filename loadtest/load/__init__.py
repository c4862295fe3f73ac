"""The load generator. Only this package imports gevent and Locust, because Locust patches the whole interpreter."""
