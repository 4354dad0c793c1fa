"""Kinds of files that hold a model's values, one module for each kind of container.

A module with a ``FORMAT`` describes one kind: how it is recognised by its content, how its tensors
are read, and where it is a target too, how it is written. Nothing else needs to know of it;
:mod:`converter.formats.registry` finds them. None needs TensorFlow.
"""
