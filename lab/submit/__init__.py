"""Submitting a scene: what it needs, under which names it is packed, and whether Blender agrees."""
