"""The tables of MeMo's paper, reproduced with the engine ``kohonen`` and set beside the engine ``willshaw``."""
