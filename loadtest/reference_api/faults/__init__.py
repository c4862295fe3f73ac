"""Where faults are applied (see ``loadtest.faults``): nothing of this is in the way of a server without any."""
