"""Where tensors come from: a reference that streams them, a candidate that is observed."""
