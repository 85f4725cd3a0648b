"""RL of vision-language-action policies on Ray, with a critic in a sidecar deciding when an episode is done."""
