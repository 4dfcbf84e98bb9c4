"""HTTP to the render server, bounded in time and size."""
