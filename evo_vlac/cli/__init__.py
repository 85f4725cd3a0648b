"""The command line: ``python -m evo_vlac COMMAND``."""
