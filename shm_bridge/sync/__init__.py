"""Order of stores, semaphores, and how one side sleeps until the other wakes it."""
