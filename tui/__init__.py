"""What is going on: the terminal screen on a run, live or played again."""
