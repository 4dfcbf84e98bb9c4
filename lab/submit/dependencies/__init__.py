"""Which other files a scene needs."""
