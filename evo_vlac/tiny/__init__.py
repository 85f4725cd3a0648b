"""A tiny VLAC, small enough to train and to serve on one CPU core: tests and examples run on it."""
