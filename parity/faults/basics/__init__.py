"""What a fault is, the layer it is about, and what that should compute."""
