"""Entry point of the `xmask3d` command and of `python -m xmask3d_rt`."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it in one line however early it comes."""
    try:
        from xmask3d_rt.cli.commands import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
