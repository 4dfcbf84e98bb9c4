"""Before a worker takes frames: who it is, what others can read of it, and whether this PC is fit for it."""
