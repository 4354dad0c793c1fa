"""Two networks run side by side, node by node; what is met there is read by those who ask."""
