"""Faults on whole runs: each with a promise that stands before the run, and a verdict by this package.

python -m tests.faults                       all of them, one after the other
python -m tests.faults --list                names and promises
python -m tests.faults --only kill-env       one or more of them (also as kill-*)
python -m tests.faults --table FILE          the table of docs/training.md from what --json wrote

__main__ --a process for each fault--> worker -> lab -> run (verl.launch, found by role, broken)
                                                         -> facts -> judge: promise kept, or what is wrong
"""
