"""The worker's side: a lane, its frames and its questions."""
