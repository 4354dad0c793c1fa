"""Checkpoints from wherever they are: the network, archives, folders."""
