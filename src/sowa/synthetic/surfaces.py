"""Textures: surfaces that fill the image. `TEXTURES` maps a category to its function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from sowa.synthetic.fields import (
    Field,
    Plane,
    blur,
    box,
    cells,
    circle,
    field,
    fractal,
    grain,
    hexagon,
    hsv,
    mix,
    oriented,
    paint,
    pigment,
    rgb,
    scaled,
    smoothstep,
    tinted,
)
from sowa.synthetic.material import Material, Scene

Surface = Callable[[Scene], Material]


def metal_colour(style: Generator) -> Field:
    """A metal's linear colour: steel, aluminium, brass, copper, or an anodised tint."""
    kind = style.choice(5, p=[0.4, 0.25, 0.12, 0.1, 0.13])
    anodised, jitter = pigment(style, vivid=0.5, dark=0.4, light=0.65), style.uniform(-0.04, 0.04)
    steel, aluminium = rgb(0.68, 0.69, 0.71), rgb(0.84, 0.84, 0.84)
    colours = [steel, aluminium, rgb(0.88, 0.74, 0.45), rgb(0.86, 0.58, 0.46), anodised]
    return field(np.clip(colours[kind] * (1 + 3 * jitter), 0, 1))


def plain(
    scene: Scene,
    albedo: Field,
    height: Field,
    gloss: float | Field,
    *,
    roughness: float = 0.25,
    metal: float = 0.0,
) -> Material:
    """A material on which a defect may lie anywhere; arguments as in `Material`."""
    gloss_field = np.broadcast_to(np.float32(gloss), scene.shape).astype(np.float32)
    anywhere = np.ones(scene.shape, np.bool_)
    return Material(albedo, height, gloss_field, anywhere, roughness=roughness, metal=metal)


def brushed_metal(scene: Scene) -> Material:
    """Sheet metal with brush marks along one direction."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    angle = style.uniform(0, np.pi) + piece.normal(0, 0.01)
    length, width = style.uniform(25, 90), style.uniform(1.2, 3.5)
    colour, depth, roughness = metal_colour(style), style.uniform(0.04, 0.13), style.uniform(0.16, 0.4)
    marks = oriented(piece, shape, width, stretch=length, angle=angle, octaves=2, gain=0.9)
    bands = oriented(piece, shape, 14.0, stretch=30.0, angle=angle, octaves=2)
    waves = fractal(piece, shape, 170.0, octaves=2)
    albedo = tinted(colour, 1 + np.float32(0.05) * marks + np.float32(0.025) * bands)
    height = np.float32(depth) * marks + np.float32(0.5) * waves
    return plain(scene, albedo, height, np.clip(0.75 + 0.08 * bands, 0, 1), roughness=roughness, metal=1.0)


def _weave(scene: Scene, plane: Plane, period: float, repeat: int, wobble: float) -> tuple[Field, Field, Field]:
    """Threads of a weave: height 0..1, warp thread on top (soft 0..1), random tone of the thread on top."""
    bend = fractal(scene.piece, scene.shape, 60.0, octaves=2) * np.float32(wobble)
    u = field(plane.x / np.float32(period)) + bend
    v = field(plane.y / np.float32(period)) + bend[::-1, ::-1]
    column, row = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    # a thread floats over `over` crossing ones, dips under the rest; each row floats one thread later
    over = repeat // 2
    warp_on_top = np.mod(column + row, repeat) < over
    along_warp = np.mod(v + column, np.float32(repeat)) / np.float32(over)
    along_weft = np.mod(u + row - over, np.float32(repeat)) / np.float32(repeat - over)
    across = np.abs(np.sin(np.float32(np.pi) * np.where(warp_on_top, u, v)))
    arch = np.sin(np.float32(np.pi) * np.clip(np.where(warp_on_top, along_warp, along_weft), 0, 1))
    height = np.sqrt(across) * (np.float32(0.45) + np.float32(0.55) * np.sqrt(np.maximum(arch, 0)))
    on_top = blur(warp_on_top.astype(np.float32), 0.5)
    tones = scene.piece.standard_normal((2, 512), dtype=np.float32)
    tone = mix(tones[1][row % 512], tones[0][column % 512], on_top)
    return blur(field(height), 0.05 * period * plane.unit), on_top, tone


def woven_fabric(scene: Scene) -> Material:
    """Plain or twill weave of warp and weft threads."""
    style, piece = scene.style, scene.piece
    period, repeat = style.uniform(6, 15), int(style.choice([2, 2, 3, 4]))
    warp_colour, other = pigment(style), pigment(style)
    weft_colour = other if style.uniform() < 0.35 else field(warp_colour * np.float32(style.uniform(0.6, 1.2)))
    plane = scene.texture_plane(style.choice([0.0, 0.0, np.pi / 4]) + style.normal(0, 0.05))
    height, on_top, tone = _weave(scene, plane, period, repeat, style.uniform(0.04, 0.12))
    fuzz = fractal(piece, scene.shape, 4.0, octaves=3, gain=0.8)
    twist = np.sin((plane.x + plane.y * (2 * on_top - 1)) * np.float32(2 * np.pi / period * 2.5))
    shade = 0.62 + 0.4 * np.clip(height, 0, 1) + 0.05 * tone + 0.07 * fuzz + 0.06 * twist
    albedo = scaled(mix(paint(scene.shape, weft_colour), warp_colour, on_top), field(shade))
    relief = height * np.float32(period * 0.2) + np.float32(0.12) * fuzz
    return plain(scene, field(albedo), field(relief), 0.08, roughness=0.5)


def carbon_fibre(scene: Scene) -> Material:
    """Twill of carbon tows under clear resin."""
    style, piece = scene.style, scene.piece
    period, level = style.uniform(14, 30), style.uniform(0.16, 0.3)
    plane = scene.texture_plane(style.choice([0.0, np.pi / 4, np.pi / 2]) + style.normal(0, 0.04))
    height, on_top, tone = _weave(scene, plane, period, 4, 0.03)
    thread_u = np.sin(plane.x * np.float32(2.9)) + np.sin(plane.x * np.float32(1.7))
    thread_v = np.sin(plane.y * np.float32(2.9)) + np.sin(plane.y * np.float32(1.7))
    fibres = mix(thread_v, thread_u, on_top)
    # tows mirror the light along their own direction: one of the two looks brighter
    glow = mix(field(np.full(scene.shape, style.uniform(0.6, 0.9))), field(np.ones(scene.shape)), on_top)
    shade = glow * (1 + 0.06 * tone + 0.09 * fibres) * (0.7 + 0.3 * np.clip(height, 0, 1))
    albedo = tinted(rgb(level, level, level * 1.03), field(shade))
    relief = height * np.float32(0.9) + np.float32(0.4) * fractal(piece, scene.shape, 90.0, octaves=2)
    return plain(scene, albedo, field(relief), field(0.35 * shade), roughness=style.uniform(0.12, 0.25))


def ceramic_tile(scene: Scene) -> Material:
    """Glazed tiles with joints: speckled, marbled or plain."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    kind, pitch, joint = style.choice(3), style.uniform(130, 300), style.uniform(3, 7)
    hue, saturation, value = style.uniform(), style.uniform(0, 0.3) ** 1.5, style.uniform(0.45, 0.92)
    second = hsv(hue + style.normal(0, 0.1), saturation, value * style.uniform(0.4, 0.8))
    third = hsv(style.uniform(), saturation, style.uniform(0.3, 0.95))
    fleck, grout = style.uniform(5, 16), style.uniform(0.3, 0.8)
    plane = scene.texture_plane(style.normal(0, 0.03))
    u = np.mod(plane.x, np.float32(pitch)) - np.float32(pitch / 2)
    v = np.mod(plane.y, np.float32(pitch * 1.0)) - np.float32(pitch / 2)
    edge = box(field(u), field(v), pitch / 2 - joint / 2, pitch / 2 - joint / 2, 3.0)
    tile = plane.cover(field(edge + 0.25 * fractal(piece, shape, 9.0)))
    glaze = paint(shape, hsv(hue, saturation, value))
    if kind == 0:
        glaze = mix(glaze, second, smoothstep(0.5, 0.8, fractal(piece, shape, fleck, octaves=3, gain=0.7)))
        glaze = mix(glaze, third, smoothstep(0.9, 1.2, fractal(piece, shape, fleck * 0.7, octaves=3, gain=0.7)))
    elif kind == 1:
        veins = np.abs(fractal(piece, shape, 150.0, octaves=5, gain=0.55))
        glaze = mix(glaze, second, field(0.75 * np.exp(-veins * 9) + 0.12 * np.clip(veins, 0, 2)))
    glaze = scaled(glaze, field(1 + 0.02 * fractal(piece, shape, 40.0)))
    grit = fractal(piece, shape, 3.0, octaves=2)
    bed_albedo = tinted(rgb(grout, grout, grout * 0.97), 0.85 + 0.1 * grit)
    wavy = 0.25 * fractal(piece, shape, 45.0, octaves=2)
    bed = plain(scene, bed_albedo, field(-2.4 + 0.18 * grit), 0.0)
    top = plain(scene, bed_albedo, bed.height, 0.0, roughness=style.uniform(0.08, 0.2))
    shaped = field(wavy + 2.0 * (dome_edge(edge) - 1))
    laid = top.blend(tile, albedo=glaze, height=shaped, gloss=field(np.full(shape, 0.55)))
    return replace(laid, region=tile > 0.5, base=bed)


def dome_edge(edge: Field) -> Field:
    """Soft fall towards an outline over five reference pixels, 1 inside."""
    return smoothstep(0.0, -5.0, edge)


def wood(scene: Scene) -> Material:
    """Sawn or varnished wood, growth rings cut lengthwise."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    angle = style.choice([0.0, np.pi / 2]) + style.normal(0, 0.06)
    hue, saturation, value = style.uniform(0.05, 0.1), style.uniform(0.25, 0.6), style.uniform(0.4, 0.85)
    ring, contrast, varnish = style.uniform(6, 22), style.uniform(0.2, 0.5), style.uniform(0, 0.5)
    plane = scene.texture_plane(angle)
    sway = oriented(piece, shape, 130.0, stretch=9.0, angle=angle, octaves=2, gain=0.3)
    ripple = oriented(piece, shape, 12.0, stretch=12.0, angle=angle, octaves=2)
    stretch_y = plane.y + np.float32(18.0) * fractal(piece, shape, 260.0, octaves=1)  # rings of uneven width
    radius = stretch_y / np.float32(ring) + np.float32(0.7) * sway + np.float32(0.08) * ripple
    phase = radius - np.floor(radius)
    late = field(phase**2 * smoothstep(1.0, 0.86, field(phase)))  # wood darkens slowly, then starts anew
    fibres = oriented(piece, shape, 2.5, stretch=28.0, angle=angle, octaves=2, gain=0.9)
    pores = smoothstep(1.3, 2.2, oriented(piece, shape, 2.6, stretch=9.0, angle=angle, octaves=1))
    cloud = fractal(piece, shape, 150.0, octaves=2)
    light, dark = (
        hsv(hue, saturation, value),
        hsv(hue - 0.015, min(1, saturation * 1.25), value * (1 - contrast)),
    )
    tone = piece.uniform(0.25, 1.0, 256).astype(np.float32)[np.floor(radius).astype(np.int32) % 256]
    albedo = mix(paint(shape, light), dark, field(late * tone))
    albedo = scaled(albedo, field(1 + 0.06 * fibres + 0.04 * cloud - 0.35 * pores))
    height = 0.1 * fibres - 0.5 * pores - 0.25 * late
    return plain(scene, albedo, field(height), varnish, roughness=0.3)


def leather(scene: Scene) -> Material:
    """Grained leather: pebbles parted by creases."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    cell, tan = style.uniform(7, 18), style.uniform() < 0.6
    natural = hsv(style.uniform(0.02, 0.09), style.uniform(0.2, 0.65), style.uniform(0.22, 0.7))
    colour = natural if tan else pigment(style, dark=0.15, light=0.75)
    gloss, roughness = style.uniform(0.15, 0.5), style.uniform(0.2, 0.4)
    border, numbers = cells(piece, shape, cell)
    border = field(border + 0.05 * cell * fractal(piece, shape, cell * 0.6, octaves=2))
    pebble = smoothstep(-0.5, cell * 0.33, border)
    tone = piece.standard_normal(4096, dtype=np.float32)[numbers % 4096]
    fine, folds = fractal(piece, shape, 3.0, octaves=2), fractal(piece, shape, 120.0, octaves=3)
    shade = 0.72 + 0.28 * pebble + 0.03 * tone + 0.03 * fine + 0.04 * folds
    height = 0.11 * cell * pebble + 0.08 * fine + 1.3 * folds
    albedo = tinted(colour, field(shade))
    return plain(scene, albedo, field(height), field(gloss * (0.6 + 0.4 * pebble)), roughness=roughness)


def cast_iron(scene: Scene) -> Material:
    """Rough sand-cast iron."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    level, warmth = style.uniform(0.25, 0.5), style.uniform(-0.02, 0.06)
    cell, depth, gloss = style.uniform(5, 14), style.uniform(0.35, 0.9), style.uniform(0.2, 0.6)
    rough = fractal(piece, shape, cell, octaves=4, gain=0.65)
    swell, patch = fractal(piece, shape, 80.0, octaves=2), fractal(piece, shape, 60.0, octaves=4)
    grit = grain(piece, shape)
    pits = smoothstep(1.9, 2.6, fractal(piece, shape, 7.0, octaves=2))
    shade = 1 + 0.08 * rough + 0.07 * patch + 0.05 * grit - 0.3 * pits
    albedo = tinted(rgb(level + warmth, level, level - warmth * 0.7), field(shade))
    height = depth * rough + 1.2 * swell + 0.05 * grit - 1.2 * pits
    return plain(scene, albedo, field(height), field(np.full(shape, gloss)), roughness=0.45, metal=0.6)


def painted_steel(scene: Scene) -> Material:
    """Painted sheet with orange peel; every other product line has pressed ribs or metallic flakes."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    colour = pigment(style, vivid=0.9, dark=0.2, light=0.85)
    peel, depth, gloss = style.uniform(6, 16), style.uniform(0.05, 0.22), style.uniform(0.3, 0.9)
    pitch, ribs, flakes = style.uniform(90, 200), style.uniform() < 0.4, style.uniform() < 0.4
    plane = scene.plane(shift=10.0, turn=0.015, angle=style.uniform(0, np.pi))
    orange = fractal(piece, shape, peel, octaves=2, gain=0.4)
    height = depth * orange + 0.8 * fractal(piece, shape, 160.0, octaves=2)
    if ribs:
        off = np.mod(plane.y, np.float32(pitch)) - np.float32(pitch / 2)
        height = height + 4 * smoothstep(30.0, 6.0, field(np.abs(off)))
    speck = grain(piece, shape) if flakes else np.zeros(shape, np.float32)
    albedo = tinted(colour, field(1 + 0.09 * speck + 0.01 * fractal(piece, shape, 50.0)))
    return plain(scene, albedo, field(height), gloss, roughness=style.uniform(0.1, 0.28))


def perforated_plate(scene: Scene) -> Material:
    """Sheet with punched round, square, slotted or hexagonal holes over a dark hollow."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    kind, pitch, staggered = style.choice(4), style.uniform(30, 70), style.uniform() < 0.6
    radius, below = pitch * style.uniform(0.25, 0.36), style.uniform(0.05, 0.3)
    painted = style.uniform() < 0.4
    colour = pigment(style) if painted else metal_colour(style)
    plane = scene.plane(shift=30.0, turn=0.03, angle=style.choice([0.0, 0.0, np.pi / 4]))
    row = np.floor(plane.y / np.float32(pitch))
    x = plane.x + (np.mod(row, 2) * np.float32(pitch / 2) if staggered else 0)
    u = field(np.mod(x, np.float32(pitch)) - np.float32(pitch / 2))
    v = field(plane.y - (row + 0.5) * np.float32(pitch))
    outlines = [
        circle(u, v, radius),
        box(u, v, radius, radius, 2.0),
        box(u, v, radius * 1.3, radius * 0.6, radius * 0.6),
        hexagon(u, v, radius),
    ]
    hole = field(-outlines[kind])
    sheet = plane.cover(hole)
    marks = oriented(piece, shape, 2.0, stretch=30.0, angle=style.uniform(0, np.pi), octaves=2)
    cloud = fractal(piece, shape, 60.0, octaves=3)
    under = tinted(rgb(below, below, below), field(0.8 + 0.15 * fractal(piece, shape, 90.0, octaves=2)))
    hollow = plain(scene, under, np.full(shape, -9, np.float32), 0.0)
    rolled = field(0.05 * marks + 0.5 * cloud - 1.2 * (1 - smoothstep(0.0, -2.5, hole)))
    top = plain(scene, under, hollow.height, 0.0, roughness=0.3, metal=0.0 if painted else 0.9)
    face = tinted(colour, field(1 + 0.04 * marks + 0.03 * cloud))
    laid = top.blend(sheet, albedo=face, height=rolled, gloss=field(np.full(shape, 0.6)))
    return replace(laid, region=sheet > 0.5, base=hollow, casts_shadow=True)


def cardboard(scene: Scene) -> Material:
    """Corrugated board: fibres, specks and faint flutes."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    angle, pitch = style.choice([0.0, np.pi / 2]) + style.normal(0, 0.03), style.uniform(14, 30)
    colour = hsv(style.uniform(0.07, 0.11), style.uniform(0.2, 0.5), style.uniform(0.55, 0.85))
    flute, speckle = style.uniform(0.1, 0.55), style.uniform(0.15, 0.5)
    plane = scene.texture_plane(angle)
    wave = np.cos(plane.y * np.float32(2 * np.pi / pitch) + np.float32(0.3) * fractal(piece, shape, 150.0, octaves=2))
    fibres = oriented(piece, shape, 3.0, stretch=6.0, angle=angle, octaves=2, gain=0.8)
    cloud = fractal(piece, shape, 25.0, octaves=4, gain=0.6)
    specks = smoothstep(2.0, 2.7, fractal(piece, shape, 4.0, octaves=2))
    shade = 1 + 0.03 * fibres + 0.03 * cloud + 0.02 * wave - speckle * specks
    height = flute * wave + 0.07 * fibres + 0.12 * cloud
    return plain(scene, tinted(colour, field(shade)), field(height), 0.06, roughness=0.5)


TEXTURES: dict[str, Surface] = {
    "brushed_metal": brushed_metal,
    "woven_fabric": woven_fabric,
    "carbon_fibre": carbon_fibre,
    "ceramic_tile": ceramic_tile,
    "wood": wood,
    "leather": leather,
    "cast_iron": cast_iron,
    "painted_steel": painted_steel,
    "perforated_plate": perforated_plate,
    "cardboard": cardboard,
}
