"""Submitting a scene: what it says, what it needs, under which names it is packed, and whether Blender agrees."""
