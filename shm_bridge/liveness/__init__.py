"""Who lives, who is dead, and what becomes of what the dead left."""
