"""HDF5 files that nobody vouches for, opened where they can do no harm.

HDF5 is a large library for a rich format, and a crafted file may crash it or have it take memory
without end. So a child process with little of both (:mod:`converter.hdf5.child`) opens the file and
says what is in it; :mod:`converter.hdf5.listing` holds every word to what the file can have; and
:mod:`converter.hdf5.file` reads the bytes themselves, which lie in the file as they are.
"""
