"""Whether two frameworks differentiate one model alike."""
