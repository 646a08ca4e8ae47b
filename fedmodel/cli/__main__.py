"""The command line as a module: ``python -m fedmodel.cli``."""

import sys

from fedmodel.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
