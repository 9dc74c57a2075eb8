"""``python -m qxfleet`` is the same as ``qxfleet``."""

from qxfleet.interfaces.cli.main import main

if __name__ == "__main__":
    main()
