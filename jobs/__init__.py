"""What one runs: the `robo4d` command line and the engines over one plan."""
