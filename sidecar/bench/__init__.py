"""``python -m sidecar.bench``: verdicts per second of every engine, and the straightforward way beside them."""
