"""The `task-archive` command: its commands, the runs that they start, and what a terminal shows of them."""
