"""The render server's protocol: what clients ask."""
