"""Results as text for a terminal, no line longer than the width that is asked for."""
