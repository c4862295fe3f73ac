"""Load-testing and benchmarking harness for the Workflow REST API."""
