"""The figures of docs/paper.md: MeMo's published tables (arXiv 2502.12851), reproduced and compared.

    python tools/paper/run.py single             capacity of one matrix
    python tools/paper/run.py several            several layers, with and without decoys
    python tools/paper/run.py prose              real prose
    python tools/paper/run.py forgetting         memorise A, memorise B, forget A
    python tools/paper/run.py all --write docs   all of them, then docs/paper.md and its plots

What has been measured is kept in tools/paper/measured/*.csv and not measured again: a long run that was ended goes on
where it stopped, and the page is drawn from those files. ``--dims`` and ``--seeds`` choose what is measured,
``--help`` tells the rest.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, which is a package: the one that holds it

from paper.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
