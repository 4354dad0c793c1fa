"""The faults themselves, a file for each kind of operation or of mistake."""
