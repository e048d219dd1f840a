"""Schema revisions, run by `memodb.catalog.schema`."""
