"""One module a revision; a released one is never edited, so each spells out its tables instead of importing models."""
