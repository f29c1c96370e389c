"""``python -m sowa``: the command line."""

from sowa.cli.app import main

main()
