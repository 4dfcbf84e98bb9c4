"""Scenes whose pictures are of another size, format or number of views."""

from __future__ import annotations

from tests.support.scenes.scene_table import border, case, new_scene

# Sizes and percentages.
for _width, _height in ((64, 48), (2, 2), (101, 67), (320, 20), (20, 200), (640, 360)):

    @case(f"size-{_width}x{_height}")
    def _size(width=_width, height=_height):
        new_scene(width, height)


for _width, _height, _percent in ((100, 60, 50), (101, 67, 33), (640, 360, 10), (64, 48, 150), (1000, 700, 1)):

    @case(f"percent-{_percent}-of-{_width}x{_height}")
    def _percentage(width=_width, height=_height, percent=_percent):
        new_scene(width, height).render.resolution_percentage = percent


@case("percent-too-small", refused="pixels")
def _too_small():
    new_scene(40, 30).render.resolution_percentage = 1


# Regions: left, right, bottom, top.
_REGIONS = {
    "crop-half": (0.25, 0.75, 0.2, 0.8),
    "crop-thirds": (0.333, 0.777, 0.1234, 0.9),
    "crop-rounds-up": (0.1, 0.7, 0.3, 0.7),
    "crop-tiny": (0.5, 0.53, 0.5, 0.55),
    "crop-all": (0.0, 1.0, 0.0, 1.0),
}
for _name, _region in _REGIONS.items():

    @case(_name)
    def _crop(region=_region):
        border(new_scene(200, 100), region, crop=True)


@case("crop-and-percent")
def _crop_percent():
    scene = new_scene(301, 199)
    scene.render.resolution_percentage = 37
    border(scene, (0.21, 0.83, 0.11, 0.77), crop=True)


@case("crop-exr")
def _crop_exr():
    scene = new_scene(200, 100)
    scene.render.image_settings.file_format = "OPEN_EXR"
    border(scene, (0.25, 0.75, 0.2, 0.8), crop=True)


@case("region-uncropped")
def _region():
    border(new_scene(200, 100), (0.25, 0.75, 0.2, 0.8), crop=False)


@case("crop-without-region")
def _crop_alone():
    new_scene(200, 100).render.use_crop_to_border = True


@case("region-empty", refused="region is empty")
def _region_empty():
    border(new_scene(200, 100), (0.5, 0.5, 0.2, 0.8), crop=True)


# Formats.
_FORMATS = {
    "png-16-bit": ("PNG", "RGBA", "16"), "png-grey": ("PNG", "BW", "8"), "png-rgb": ("PNG", "RGB", "8"),
    "jpeg": ("JPEG", "RGB", None), "bmp": ("BMP", "RGB", None), "targa": ("TARGA", "RGBA", None),
    "targa-raw": ("TARGA_RAW", "RGB", None), "tiff": ("TIFF", "RGBA", "8"), "tiff-16-bit": ("TIFF", "RGB", "16"),
    "exr-half": ("OPEN_EXR", "RGBA", "16"), "exr-float": ("OPEN_EXR", "RGB", "32"), "hdr": ("HDR", "RGB", None),
    "dpx-10-bit": ("DPX", "RGB", "10"), "dpx-16-bit": ("DPX", "RGBA", "16"), "cineon": ("CINEON", "RGB", None),
    "webp": ("WEBP", "RGBA", None), "jpeg2000": ("JPEG2000", "RGB", "16"), "iris": ("IRIS", "RGBA", None),
}  # fmt: skip
for _name, _settings in _FORMATS.items():

    @case(_name)
    def _format(settings=_settings):
        picture = new_scene().render.image_settings
        picture.file_format, picture.color_mode = settings[:2]
        if settings[2]:
            picture.color_depth = settings[2]


@case("jpeg2000-codestream")
def _codestream():
    picture = new_scene().render.image_settings
    picture.file_format, picture.jpeg2k_codec = "JPEG2000", "J2K"


@case("exr-layers")
def _layers():
    scene = new_scene()
    scene.render.image_settings.file_format, scene.render.image_settings.color_depth = "OPEN_EXR_MULTILAYER", "32"
    layer = scene.view_layers[0]
    layer.use_pass_z = layer.use_pass_normal = layer.use_pass_vector = layer.use_pass_position = True
    layer.use_pass_cryptomatte_object = layer.use_pass_cryptomatte_material = True


@case("exr-many-channels")
def _many_channels():
    scene = new_scene(32, 24)
    scene.render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
    for number in range(6):
        layer = scene.view_layers[0] if number == 0 else scene.view_layers.new(f"layer {number}")
        for name in dir(layer):
            if name.startswith("use_pass_") and name != "use_pass_combined":
                setattr(layer, name, True)


for _name in ("FFMPEG", "AVI_JPEG"):

    @case(f"movie-{_name.lower()}", warning="movie", bare=("-F", "PNG"))
    def _movie(name=_name):
        new_scene().render.image_settings.file_format = name


# Views.
def stereo(file_format="PNG", **settings):
    scene = new_scene()
    scene.render.use_multiview = True
    picture = scene.render.image_settings
    picture.file_format = file_format
    if "EXR" not in file_format:
        picture.views_format = "STEREO_3D"
    for name, value in settings.items():
        setattr(picture.stereo_3d_format, name, value)
    return scene


for _mode in ("SIDEBYSIDE", "TOPBOTTOM", "ANAGLYPH", "INTERLACE"):

    @case(f"stereo-{_mode.lower()}")
    def _stereo(mode=_mode):
        stereo(display_mode=mode)


@case("stereo-squeezed")
def _squeezed():
    stereo(display_mode="SIDEBYSIDE", use_squeezed_frame=True)


@case("stereo-one-eye")
def _one_eye():
    scene = stereo()
    scene.render.image_settings.views_format = "INDIVIDUAL"
    scene.render.views["right"].use = False


for _name, _kind in (("png", "PNG"), ("hdr", "HDR"), ("dpx", "DPX")):

    @case(f"stereo-two-files-{_name}", warning="side by side")
    def _two_files(kind=_kind):
        stereo(kind).render.image_settings.views_format = "INDIVIDUAL"


@case("stereo-two-files-exr", warning="all views come back in one OpenEXR", differs=True)
def _two_files_exr():
    stereo("OPEN_EXR").render.image_settings.views_format = "INDIVIDUAL"


@case("stereo-two-files-cineon", refused="Cineon")
def _two_files_cineon():
    stereo("CINEON").render.image_settings.views_format = "INDIVIDUAL"


@case("stereo-two-files-movie", warning="side by side", notes=2, bare=("-F", "PNG"))
def _two_files_movie():
    stereo("FFMPEG").render.image_settings.views_format = "INDIVIDUAL"


@case("views-in-one-exr")
def _one_exr():
    stereo("OPEN_EXR_MULTILAYER").render.image_settings.views_format = "MULTIVIEW"


@case("views-in-three-files", refused="every view")
def _three_files():
    scene = stereo()
    scene.render.views_format, scene.render.image_settings.views_format = "MULTIVIEW", "INDIVIDUAL"
    scene.render.views.new("middle").camera_suffix = "_M"
