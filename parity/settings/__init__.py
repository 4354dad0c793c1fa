"""What each command can be told: one dataclass a command, from which all else about it follows.

A field is declared once, with its type, default, limits and meaning. From that follow the options
of the command line and their help (:mod:`parity.commands.asking.command_line`), the arguments of
the functions of :mod:`efficientdet_parity`, the command line that a result records, and what tells
whether a step of an earlier run can be used again.
"""
