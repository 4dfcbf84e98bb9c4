"""Blenders that stay open and render one frame after the other."""
