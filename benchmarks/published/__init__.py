"""Ports that others have published, as their users run them; nothing of theirs is in here.

Each module makes one port's network with the checkpoint's values, for ``compare.py nodes`` and
``coco --candidate``, and runs its whole pipeline on image files, for ``coco --detections``. The
ports are installed by the user, or lie where an environment variable says.
"""
