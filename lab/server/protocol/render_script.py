"""What the server asks Blender to do: its command line, and the script that runs before the render.

Valid for Blender 2.80 to 5.x. The client adds its own lines after it (temporary folder, CPU or GPU). What the script
changes about a picture is told before the scene is sent (:mod:`lab.submit.scene.notes`).
"""

from __future__ import annotations

from lab.project_rules import KEPT_FORMATS

from .compute_device import SET_COMPUTE_DEVICE

COMMAND_LINE = ".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1"
#: How a client reads progress from what Blender prints.
UPDATE_METHOD = "remainingtime"

_SCRIPT = f"""import bpy

scene = bpy.context.scene
render = scene.render
settings = render.image_settings

# Pictures stay what they are; a movie becomes a PNG for each frame.
if getattr(settings, 'media_type', '') == 'VIDEO':  # Blender 5.0 and later
    settings.media_type = 'IMAGE'
if settings.file_format not in {KEPT_FORMATS!r}:
    settings.file_format = 'PNG'

# One file for each frame: views in files of their own are put into one.
is_stereo = render.views_format == 'STEREO_3D'
shown = [view for view in render.views if view.use and (not is_stereo or view.name in ('left', 'right'))]
if render.use_multiview and len(shown) > 1 and settings.views_format == 'INDIVIDUAL':
    if settings.file_format in ('OPEN_EXR', 'OPEN_EXR_MULTILAYER'):
        settings.views_format = 'MULTIVIEW'
    elif is_stereo:
        settings.views_format = 'STEREO_3D'
        settings.stereo_3d_format.display_mode = 'SIDEBYSIDE'
        settings.stereo_3d_format.use_sidebyside_crosseyed = False
        settings.stereo_3d_format.use_squeezed_frame = False

render.filepath = ''
render.use_file_extension = True
render.use_overwrite = True
render.use_placeholder = False
"""

_ON_CPU = """
for other in bpy.data.scenes:
    if hasattr(other, 'cycles'):
        other.cycles.device = 'CPU'
"""


def script_for(*, use_gpu: bool) -> str:
    """The script of one job offer."""
    return _SCRIPT + SET_COMPUTE_DEVICE + ("" if use_gpu else _ON_CPU)
