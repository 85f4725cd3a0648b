"""What lies in shared memory, and how it is mapped."""
