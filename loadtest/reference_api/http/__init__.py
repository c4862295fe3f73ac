"""The server's HTTP: reading requests, writing responses, and clients that hang up."""
