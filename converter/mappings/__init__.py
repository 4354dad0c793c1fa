"""How the parameters of this project's model are called elsewhere: one module for each naming.

``official`` has the TensorFlow variables of Google's checkpoints. Each module with a ``NAMING`` has
the state-dict keys of a PyTorch code base; :mod:`converter.mappings.state_dicts` finds them.
"""
