"""Which frame is asked for, and which node renders it."""
