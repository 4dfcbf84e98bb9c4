"""What goes from the coordinator to the render server, and what comes of it."""
