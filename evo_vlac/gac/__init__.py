"""``GAC_model``, the class VLAC's users know: a thin face over the typed modules of this package."""
