"""`python -m sidecar`, and the command `sidecar`."""

import sys

from sidecar.adapters.early_signals import hold_signals


def main() -> int:
    """Run the command; a sidecar is safe from signals before anything else is imported."""
    if sys.argv[1:2] == ["run"]:
        hold_signals()
    from sidecar.cli import main as command  # noqa: PLC0415 - see above

    return command()


if __name__ == "__main__":
    sys.exit(main())
