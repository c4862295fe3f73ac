"""Which limiter made these decisions: pure, from what was sent and what was refused."""
