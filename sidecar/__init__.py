"""sidecar: the process in which the critic lives. ``python -m sidecar --config FILE`` starts it."""
