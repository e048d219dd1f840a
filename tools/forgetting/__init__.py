"""The evaluation of forgetting, one file a question, each a function over a store; ``run.py`` asks them all."""
