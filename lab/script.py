"""What the server asks Blender to do: its command line, and the script that runs before the render.

Valid for Blender 2.80 to 5.x. The client adds its own lines after it (temporary folder, CPU or GPU).
"""

from __future__ import annotations

from .compute_device import SET_COMPUTE_DEVICE

COMMAND_LINE = ".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1"
#: How a client reads progress from what Blender prints.
UPDATE_METHOD = "remainingtime"

_KEPT_FORMATS = "'BMP', 'PNG', 'JPEG', 'TARGA', 'TARGA_RAW', 'TIFF', 'OPEN_EXR'"

_SCRIPT = f"""import bpy

scene = bpy.context.scene
render = scene.render

# One picture per frame: a movie or a multilayer file becomes a PNG.
settings = render.image_settings
if getattr(settings, 'media_type', 'IMAGE') != 'IMAGE':  # Blender 5.0 and later
    settings.media_type = 'IMAGE'
if settings.file_format not in ({_KEPT_FORMATS}):
    settings.file_format = 'PNG'
render.filepath = ''
render.use_file_extension = True
render.use_overwrite = True
render.use_placeholder = False
"""

_ON_CPU = """
for one in bpy.data.scenes:
    if hasattr(one, 'cycles'):
        one.cycles.device = 'CPU'
"""


def script_for(*, use_gpu: bool) -> str:
    """The script of one job offer."""
    return _SCRIPT + SET_COMPUTE_DEVICE + ("" if use_gpu else _ON_CPU)
