"""The part of a job's script that says what Cycles computes with, in words that the client calls it by.

Clients since 2017-02 end the script with a line of their own, ``sheepit_set_compute_device("CUDA", "GPU", "CUDA_0")``
or ``sheepit_set_compute_device("NONE", "CPU", "CPU")``, and count on the server's script to define it. Earlier clients
set the device themselves and never call it.
"""

from __future__ import annotations

SET_COMPUTE_DEVICE = '''
def sheepit_set_compute_device(kind, device, name):
    """Render with one device: kind "CUDA", "OPTIX", ... or "NONE", device "GPU" or "CPU", and the device's id."""
    gpu = device == 'GPU' and kind != 'NONE'
    addon = bpy.context.preferences.addons.get('cycles')
    if addon is not None:
        preferences = addon.preferences
        try:
            preferences.compute_device_type = kind if gpu else 'NONE'
        except TypeError:
            print('This Blender knows no %s devices; the CPU renders' % kind)
            preferences.compute_device_type = 'NONE'
            gpu = False
        if gpu:
            if hasattr(preferences, 'refresh_devices'):
                preferences.refresh_devices()  # Blender 3.0 and later
            else:
                preferences.get_devices()
            usable = [found for found in preferences.devices if found.type == kind]
            number = name.rpartition('_')[2]
            wanted = [found for found in usable if found.id == name]
            if not wanted and number.isdigit() and int(number) < len(usable):
                wanted = [usable[int(number)]]  # older clients count: CUDA_0
            for found in preferences.devices:
                found.use = found in (wanted or usable)
    for made in bpy.data.scenes:
        if hasattr(made, 'cycles'):
            made.cycles.device = 'GPU' if gpu else 'CPU'
'''
