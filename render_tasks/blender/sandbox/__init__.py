"""Keeps a renderer from everything but its scene, its binary and its own folder."""
