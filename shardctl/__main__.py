"""`python -m shardctl`, and the console script."""

import gc
import sys


def main() -> None:
    """Run the command line, and exit with its code."""
    # What is imported stays: to look it through for garbage each time that it has grown takes a tenth of a short run.
    gc.set_threshold(50_000, 20, 100)
    try:
        from shardctl.cli.app import app  # here, so that ^C while it is imported is no traceback

        app(prog_name="shardctl")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
