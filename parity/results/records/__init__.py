"""The records of each kind of result file, one file a kind."""
