"""Balls, boxes and materials of which the demo scene is made. Runs inside Blender, imported by ``scene.py``."""

import math

import bpy
from mathutils import Matrix, Vector


def material(name, colour, roughness=0.9):
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    made.diffuse_color = (*colour, 1.0)
    shader = next(node for node in made.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    shader.inputs["Roughness"].default_value = roughness
    for name in ("Specular", "Specular IOR Level"):
        if name in shader.inputs:
            shader.inputs[name].default_value = 0.1
    return made


class Mesh:
    """Collects solids with one material each, and becomes one object."""

    def __init__(self, name):
        self.name = name
        self.vertices, self.faces, self.slots, self.materials = [], [], [], []

    def add(self, vertices, faces, made, matrix=None):
        first = len(self.vertices)
        matrix = matrix or Matrix.Identity(4)
        self.vertices += [tuple(matrix @ Vector(vertex)) for vertex in vertices]
        self.faces += [tuple(first + index for index in face) for face in faces]
        if made not in self.materials:
            self.materials.append(made)
        self.slots += [self.materials.index(made)] * len(faces)

    def ball(self, centre, radii, made, *, rings=6, segments=9, turn=0.0, jitter=0.0, rng=None):  # noqa: PLR0913
        vertices, faces = [(0, 0, 1)], []
        for ring in range(1, rings):
            for segment in range(segments):
                down, around = math.pi * ring / rings, 2 * math.pi * (segment + 0.5 * (ring % 2)) / segments
                grow = 1 + (rng.uniform(-jitter, jitter) if rng else 0)
                vertices.append(
                    (
                        math.sin(down) * math.cos(around) * grow,
                        math.sin(down) * math.sin(around) * grow,
                        math.cos(down) * grow,
                    )
                )
        vertices.append((0, 0, -1))
        last = len(vertices) - 1
        for segment in range(segments):
            beside = (segment + 1) % segments
            faces.append((0, 1 + segment, 1 + beside))
            for ring in range(rings - 2):
                upper, lower = 1 + ring * segments, 1 + (ring + 1) * segments
                faces.append((upper + segment, lower + segment, lower + beside, upper + beside))
            bottom = 1 + (rings - 2) * segments
            faces.append((bottom + beside, bottom + segment, last))
        place = Matrix.Translation(centre) @ Matrix.Rotation(turn, 4, "Y") @ Matrix.Diagonal((*radii, 1))
        self.add(vertices, faces, made, place)

    def box(self, centre, size, made, turn=0.0, axis="Y"):
        corners = [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]
        faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        place = Matrix.Translation(centre) @ Matrix.Rotation(turn, 4, axis) @ Matrix.Diagonal((*size, 1))
        self.add(corners, faces, made, place)

    def build(self):
        mesh = bpy.data.meshes.new(self.name)
        mesh.from_pydata(self.vertices, [], self.faces)
        for made in self.materials:
            mesh.materials.append(made)
        mesh.polygons.foreach_set("material_index", self.slots)
        mesh.update()
        made = bpy.data.objects.new(self.name, mesh)
        bpy.context.scene.collection.objects.link(made)
        return made
