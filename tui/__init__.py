"""What is going on: the terminal screen. Empty until it is built; its room and its import rules stand."""
