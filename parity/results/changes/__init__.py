"""What changed from one comparison of nodes to another."""
