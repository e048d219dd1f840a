"""Erasure: deletion by id or filter, and a receipt of what was done and verified."""

from memodb.erasure.deletion import delete
from memodb.erasure.receipt import Receipt, SegmentProof

__all__ = ["Receipt", "SegmentProof", "delete"]
