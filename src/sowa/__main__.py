"""``python -m sowa``: the command line."""

from sowa.cli import main

main()
