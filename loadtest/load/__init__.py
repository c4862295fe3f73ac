"""Makes traffic. The only room for locust and gevent; importing locust patches the whole interpreter."""
