"""What a .blend file says, read without Blender."""
