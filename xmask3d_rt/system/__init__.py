"""The machine: memory, child processes, Ctrl-C, what can be installed."""
