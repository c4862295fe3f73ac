"""HTTP under gevent: connections, name resolution, and exchanges with the times of their phases."""
