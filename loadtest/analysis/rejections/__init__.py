"""Analysis of a record's 429s."""
