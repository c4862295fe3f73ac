"""Tables of a report, as formatted text."""
