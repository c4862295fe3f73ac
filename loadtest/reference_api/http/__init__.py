"""The server's HTTP. It reads requests, writes responses, and notices when a client hangs up."""
