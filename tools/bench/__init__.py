"""memodb timed against what a clever user would write or install instead; ``run.py`` asks for all of it."""
