"""``python -m efficientdet_parity``, and what ``efficientdet-parity`` starts with."""

from __future__ import annotations

import sys

from parity.process import interruption


def main() -> int:
    """Run the command line of this process; the exit code."""
    # The imports that follow take long enough to be interrupted.
    interruption.end_at_once("efficientdet-parity")
    from efficientdet_parity.command_line import main as run
    from parity.process import reading

    reading.start()
    return run()


if __name__ == "__main__":
    sys.exit(main())
