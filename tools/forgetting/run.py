"""The figures of docs/forgetting.md: what is left of a text that was deleted, measured on real text.

    python tools/forgetting/run.py                   prints the table
    python tools/forgetting/run.py --write docs      also puts it into docs/forgetting.md
    python tools/forgetting/run.py --documents N     forgets N documents instead of 500
    python tools/forgetting/run.py --quick           little text, in seconds: a check of the tool, no figure

Input: the installed Python's docstrings and modules; nothing is fetched. Texts, canaries and the store's secret follow
from one seed, so that a second run on the same Python asks the same questions. Exits with 1 where a goal is missed that
does not depend on the machine's speed.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, which is a package: the one that holds it

from forgetting.evaluation import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
