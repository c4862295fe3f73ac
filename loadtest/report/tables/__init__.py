"""The tables of a report, as text that is ready to show."""
