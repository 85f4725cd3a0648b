"""One transport a file; each echoes a frame and receives a small answer."""
