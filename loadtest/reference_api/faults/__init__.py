"""Application of faults (see ``loadtest.faults``). A server without faults does not use this package."""
