"""Provenance: from a text back to the documents that hold it."""

from memodb.provenance.trace import Source, Span, trace

__all__ = ["Source", "Span", "trace"]
