"""How much each test of this folder does: a short sample in the ordinary suite, the full size under ``stress``.

``MEMODB_STRESS`` (default 1.0) multiplies the stress sizes only. At 1.0 the folder takes about two minutes on two
cores; 10 reaches the figures that docs/reliability.md promises.
"""

from __future__ import annotations

import os

__all__ = ["size"]


def size(ordinary: int, stress: int, *, long: bool) -> int:
    """Cases to run: ``ordinary``, or with ``long`` the stress size under the current factor (never fewer than one)."""
    return max(1, round(stress * float(os.environ.get("MEMODB_STRESS", "1.0")))) if long else ordinary
