"""Simulations whose result stands nowhere: neither in the .blend nor in a cache beside it.

Blender computes such a simulation from frame to frame. A farm renders every frame in a Blender of its own, which has
not seen the frames before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .blend_file import Block
from .objects import nodes_of

# Numbers of Blender's DNA_modifier_types.h and what belongs to them; a file keeps them for ever.
_SOFT_BODY, _CLOTH, _LIQUID_BEFORE_282, _SMOKE_BEFORE_282, _DYNAMIC_PAINT, _FLUID, _NODES = 10, 22, 26, 31, 40, 56, 57
_SHOWN_IN_RENDERS = 1 << 1  # ModifierData.mode
_BAKED, _EXTERNAL = 1 << 0, 1 << 9  # PointCache.flag
_IS_DOMAIN = 1 << 0  # FluidModifierData.type, SmokeModifierData.type
_IS_LIQUID_DOMAIN = 1 << 1  # FluidsimSettings.type
_BAKED_DATA, _BAKED_MESH = 1 << 1, 1 << 5  # FluidDomainSettings.cache_flag
_USES_MESH, _LIQUID = 1 << 9, 1  # FluidDomainSettings.flags and .type
_HAIR, _FROM_FLUID = 2, 3  # ParticleSettings.type
_HAIR_DYNAMICS = 1 << 2  # ParticleSystem.flag
_NEWTON, _BOIDS, _PARTICLE_FLUID = 1, 3, 4  # ParticleSettings.phystype
_SURFACE_ACTIVE, _IMAGE_SEQUENCE = 1 << 0, 2  # DynamicPaintSurface.flags and .format
_WORLD_MUTED, _BODY_ACTIVE = 1 << 0, 0  # RigidBodyWorld.flag, RigidBodyOb.type


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A simulation that is not baked: frames after its first depend on those before."""

    #: ``cloth``, ``particles``, …
    kind: str
    #: The object's name; the rigid bodies of a scene have the scene's.
    owner: str
    #: The frame in which it begins; up to there nothing depends on it.
    start: int


def unbaked(scene: Block, objects: list[Block], folder: Path) -> tuple[Simulation, ...]:
    """Those of a scene's own objects; ``folder`` is the .blend's."""
    found = [simulation for item in objects for simulation in _of_object(item, folder)]
    return (*found, *_rigid_bodies(scene))


def _of_object(item: Block, folder: Path) -> Iterator[Simulation]:
    for modifier in item.listed(b"modifiers", following=(b"modifier", b"next")):
        if modifier.number(b"modifier", b"mode") & _SHOWN_IN_RENDERS:
            yield from _of_modifier(item, modifier, folder)
    for system in item.listed(b"particlesystem"):
        yield from _of_particles(item, system)


def _of_modifier(item: Block, modifier: Block, folder: Path) -> Iterator[Simulation]:
    look = _LOOKS.get(modifier.number(b"modifier", b"type"))
    return look(item, modifier, folder) if look else iter(())


def _cloth(item: Block, modifier: Block, _folder: Path) -> Iterator[Simulation]:
    return _unless_baked("cloth", item.name, modifier.follow(b"point_cache"))


def _soft_body(item: Block, _modifier: Block, _folder: Path) -> Iterator[Simulation]:
    return _unless_baked("soft body", item.name, _shared_cache(item.follow(b"soft")))


def _dynamic_paint(item: Block, modifier: Block, _folder: Path) -> Iterator[Simulation]:
    canvas = modifier.follow(b"canvas")
    for surface in canvas.listed(b"surfaces") if canvas else ():
        if surface.number(b"flags") & _SURFACE_ACTIVE and surface.number(b"format") != _IMAGE_SEQUENCE:
            yield from _unless_baked("dynamic paint", item.name, surface.follow(b"pointcache"))


def _fluid(item: Block, modifier: Block, _folder: Path) -> Iterator[Simulation]:
    domain = modifier.follow(b"domain") if modifier.number(b"type") & _IS_DOMAIN else None
    if domain is None:
        return
    baked = domain.number(b"cache_flag")
    needs_mesh = domain.number(b"type") == _LIQUID and domain.number(b"flags") & _USES_MESH
    if not baked & _BAKED_DATA or (needs_mesh and not baked & _BAKED_MESH):
        yield Simulation(kind="fluid", owner=item.name, start=domain.number(b"cache_frame_start", default=1))


def _old_smoke(item: Block, modifier: Block, _folder: Path) -> Iterator[Simulation]:
    domain = modifier.follow(b"domain") if modifier.number(b"type") & _IS_DOMAIN else None
    return _unless_baked("smoke", item.name, domain.follow(b"point_cache", 0) if domain else None)


def _old_liquid(item: Block, modifier: Block, folder: Path) -> Iterator[Simulation]:
    settings = modifier.follow(b"fss")
    if settings and settings.number(b"type") & _IS_LIQUID_DOMAIN:
        prefix = _beside(folder, settings.text(b"surfdataPath"))
        if not any(prefix.parent.glob(prefix.name + "*")):
            yield Simulation(kind="fluid", owner=item.name, start=1)


def _simulation_nodes(item: Block, modifier: Block, folder: Path) -> Iterator[Simulation]:
    nodes = nodes_of(modifier.follow(b"node_group"))
    if not any(node.text(b"idname") == "GeometryNodeSimulationOutput" for node in nodes):
        return
    first = modifier.follow(b"bakes")
    bakes = list(first.elements()) if first else []
    whole = modifier.pointed_text(b"simulation_bake_directory")
    if not bakes or not all(_is_kept(bake, whole, folder) for bake in bakes):
        yield Simulation(kind="simulation nodes", owner=item.name, start=1)


def _is_kept(bake: Block, modifiers_folder: str, folder: Path) -> bool:
    if bake.follow(b"packed") is not None:
        return True
    own = bake.pointed_text(b"directory")
    there = _beside(folder, own) if own else _beside(folder, modifiers_folder) / str(bake.number(b"id"))
    return bool(own or modifiers_folder) and (there / "meta").is_dir()


def _of_particles(item: Block, system: Block) -> Iterator[Simulation]:
    settings = system.follow(b"part")
    if settings is None or settings.type == "ID":
        return
    kind, physics = settings.number(b"type"), settings.number(b"phystype")
    if kind >= _FROM_FLUID:  # they are the fluid's
        return
    moves = system.number(b"flag") & _HAIR_DYNAMICS if kind == _HAIR else physics in _SIMULATED_PHYSICS
    if moves:
        yield from _unless_baked("hair" if kind == _HAIR else "particles", item.name, system.follow(b"pointcache"))


def _rigid_bodies(scene: Block) -> Iterator[Simulation]:
    world = scene.follow(b"rigidbody_world")
    group = world.follow(b"group") if world and not world.number(b"flag") & _WORLD_MUTED else None
    if world is None or group is None:
        return
    bodies = [_body(member) for member in group.listed(b"gobject")]
    if any(body is not None and body.number(b"type") == _BODY_ACTIVE for body in bodies):
        yield from _unless_baked("rigid bodies", scene.name, _shared_cache(world))


def _body(member: Block) -> Block | None:
    item = member.follow(b"ob")
    return item.follow(b"rigidbody_object") if item else None


def _shared_cache(owner: Block | None) -> Block | None:
    """The cache of a soft body or of a rigid body world: since 2.80 it stands in a part that copies share."""
    if owner is None:
        return None
    shared = owner.follow(b"shared")
    return (shared.follow(b"pointcache") if shared else None) or owner.follow(b"pointcache")


def _unless_baked(kind: str, owner: str, cache: Block | None) -> Iterator[Simulation]:
    if cache is not None and not cache.number(b"flag") & (_BAKED | _EXTERNAL):
        yield Simulation(kind=kind, owner=owner, start=cache.number(b"startframe", default=1))


def _beside(folder: Path, path: str) -> Path:
    """A path as Blender writes it; ``//`` is the .blend's own folder."""
    return folder / path[2:] if path.startswith("//") else Path(path)


_SIMULATED_PHYSICS = (_NEWTON, _BOIDS, _PARTICLE_FLUID)
_LOOKS = {
    _CLOTH: _cloth,
    _SOFT_BODY: _soft_body,
    _DYNAMIC_PAINT: _dynamic_paint,
    _FLUID: _fluid,
    _SMOKE_BEFORE_282: _old_smoke,
    _LIQUID_BEFORE_282: _old_liquid,
    _NODES: _simulation_nodes,
}
