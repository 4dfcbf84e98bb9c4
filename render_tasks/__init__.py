"""What runs on every PC: takes orders from its own queue, renders with Blender, delivers to the coordinator.

Never imports ``coordinator`` or ``lab``; what both sides must agree on lives in :mod:`sheepfold.contract`.
"""
