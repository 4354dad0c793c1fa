"""Images for tests that need any content at all."""

from parity.images import waves as built_in

__all__ = ["built_in"]
