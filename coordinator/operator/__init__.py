"""What operators see and say: figures, commands, the tables they read."""
