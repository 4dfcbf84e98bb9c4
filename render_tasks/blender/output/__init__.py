"""What Blender leaves behind: its log, its progress, its pictures, why it ended."""
