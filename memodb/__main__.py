"""``python -m memodb``: the command line without its entry point."""

from memodb.cli import main

main(prog_name="memodb")
