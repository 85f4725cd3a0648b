"""From episodes to gradients: groups, advantages, samples, losses. No process, no model, no file."""
