"""HTTP under gevent: connections, name resolution, and requests with the phases of their answers."""
