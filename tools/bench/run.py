"""The figures of docs/benchmarks.md and docs/tuning.md: memodb beside its goals, beside its peers, as it grows, as set.

    python tools/bench/run.py goals              every goal, on one store
    python tools/bench/run.py plain              the same, with NumPy alone
    python tools/bench/run.py peers              the same questions to a dict, NumPy, SQLite, tokengrams, infini-gram
    python tools/bench/run.py growth             stores from a hundredth of the tokens to ten times as many
    python tools/bench/run.py profile            where the time goes
    python tools/bench/run.py all --write docs   all of these, and docs/benchmarks.md with its plots
    python tools/bench/run.py tuning             what each setting of a store costs: docs/tuning.md, with --write docs

Options: ``--tokens`` (1,000,000), ``--device`` (cpu), ``--repeats`` (7), ``--write DOCS``. Without ``--write`` the
page's parts are only printed.

Input: the installed Python's own sources, in pieces of about 1,000 tokens, in an order drawn from a seed; nothing is
fetched. The extra ``memodb[bench]`` installs the peers of the package index; the others need nothing. Run it alone:
a busy machine halves every figure, though hardly their ratios, because what is compared takes turns.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, which is a package: the one that holds it

from bench.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
