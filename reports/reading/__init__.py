"""The results of a run on disk, read and checked before anything is made of them."""
