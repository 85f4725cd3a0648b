"""The sidecar's side: the lanes it serves, their questions and its answers."""
