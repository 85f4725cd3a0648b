"""Upstream's interface over the typed modules of this package: ``GAC_model`` and the helpers of ``evo_vlac.utils``."""
