"""A reference's tensors on disk: HDF5 files of which nothing is trusted."""
