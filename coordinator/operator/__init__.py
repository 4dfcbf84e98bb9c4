"""The operator's commands, and the figures and tables that they show."""
