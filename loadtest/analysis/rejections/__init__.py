"""All that a record's 429s tell of the limits."""
