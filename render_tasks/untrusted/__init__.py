"""Whatever a renderer left behind: opened, moved and deleted without trusting any of it."""
