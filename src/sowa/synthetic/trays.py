"""Objects of many equal parts, any of which may be missing. `TRAYS` maps a category to its function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from sowa.synthetic.fields import (
    Field,
    Plane,
    box,
    circle,
    dome,
    field,
    fractal,
    hexagon,
    pigment,
    rgb,
    smoothstep,
    tinted,
)
from sowa.synthetic.material import Material, Scene
from sowa.synthetic.parts import backdrop, place
from sowa.synthetic.surfaces import Surface, metal_colour, plain


def grid_slots(plane: Plane, columns: int, rows: int, pitch_x: float, pitch_y: float) -> tuple[Field, Field, Field]:
    """Local coordinates within the slots of a grid, x and y, and the slot's number from 1 (0 outside it); all (H, W).

    Args:
        plane: The tray's.
        columns: Of the grid.
        rows: Of the grid.
        pitch_x: From slot to slot, reference pixels.
        pitch_y: Likewise.
    """
    column = np.floor(plane.x / np.float32(pitch_x) + np.float32(columns / 2))
    row = np.floor(plane.y / np.float32(pitch_y) + np.float32(rows / 2))
    u = plane.x - (column + np.float32(0.5 - columns / 2)) * np.float32(pitch_x)
    v = plane.y - (row + np.float32(0.5 - rows / 2)) * np.float32(pitch_y)
    valid = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    return field(u), field(v), field(np.where(valid, row * columns + column + 1, 0))


def jitter(piece: Generator, numbers: Field, amount: float) -> tuple[Field, Field]:
    """A random offset (x, y) for every slot number, spread over the slots' pixels.

    Args:
        piece: Draws it.
        numbers: Of the slots, (H, W), as of `grid_slots`.
        amount: Of the offset, reference pixels.
    """
    offsets = piece.normal(0, amount, (2, 256)).astype(np.float32)
    index = numbers.astype(np.int32)
    return offsets[0][index], offsets[1][index]


def blister_pack(scene: Scene) -> Material:
    """Tablets in the pockets of a clear or foil pack."""
    style, piece, ground = scene.style, scene.piece, backdrop(scene)
    columns, rows = int(style.integers(3, 6)), int(style.integers(2, 5))
    pitch = min(330 / columns, 330 / rows)
    tablet, oval = pitch * style.uniform(0.27, 0.34), style.uniform() < 0.4
    colour, score = pigment(style, dark=0.7, light=0.95), style.uniform() < 0.5
    foil_value = style.uniform(0.5, 0.8)
    plane = scene.plane(shift=8.0, turn=0.04, angle=style.choice([0.0, np.pi / 2]))
    u, v, number = grid_slots(plane, columns, rows, pitch, pitch)
    sheet = box(plane.x, plane.y, columns * pitch / 2, rows * pitch / 2, 12.0)
    knurl = np.cos(plane.x * np.float32(1.1)) * np.cos(plane.y * np.float32(1.1))
    crinkle = fractal(piece, scene.shape, 50.0, octaves=4)
    foil = tinted(rgb(foil_value, foil_value, foil_value), field(1 + 0.02 * crinkle))
    relief = field(2 + 0.12 * knurl + 0.4 * crinkle)
    pack = place(ground, plane.cover(sheet), foil, relief, 0.6, metal=0.5, roughness=0.22)
    aspect = np.float32(1.35 if oval else 1.0)
    pocket = circle(u, field(v * aspect), tablet * 1.25)
    lip = smoothstep(4.0, 0.0, field(np.abs(pocket)))
    pack = pack.blend(field(lip * plane.cover(sheet)), height=field(relief + 2.5))
    dx, dy = jitter(piece, number, tablet * 0.05)
    edge = circle(field(u - dx), field((v - dy) * aspect), tablet)
    shade = 1 + 0.02 * fractal(piece, scene.shape, 6.0, octaves=3, gain=0.8)
    groove = smoothstep(2.5, 0.0, field(np.abs(v - dy))) if score else np.zeros(scene.shape, np.float32)
    height = 3 + 8 * dome(edge, tablet * 0.6) - 1.5 * groove
    body = tinted(colour, field(shade - 0.08 * groove))
    cover = plane.cover(field(np.where(number > 0, edge, 9)))
    full = place(pack, cover, body, field(height), 0.25)
    labels = np.where((edge < 1) & (number > 0), number, 0).astype(np.int32)
    return replace(full, base=pack, parts=labels)


def washer_tray(scene: Scene) -> Material:
    """Washers or nuts in the pockets of a moulded tray."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    columns, nut = int(style.integers(3, 6)), style.uniform() < 0.5
    pitch = 400 / columns
    radius, bore = pitch * style.uniform(0.3, 0.37), style.uniform(0.42, 0.6)
    tray_colour, colour = pigment(style, dark=0.12, light=0.6), metal_colour(style)
    plane = scene.plane(shift=10.0, turn=0.03)
    u, v, number = grid_slots(plane, columns, columns, pitch, pitch)
    number = field(np.maximum(number, 0))
    fine = fractal(piece, shape, 5.0, octaves=3, gain=0.8)
    pocket = circle(u, v, pitch * 0.44)
    tray_relief = field(0.12 * fine - 5 * smoothstep(2.0, -4.0, pocket))
    tray_albedo = tinted(tray_colour, field(1 + 0.03 * fine + 0.02 * fractal(piece, shape, 80.0)))
    tray = plain(scene, tray_albedo, tray_relief, 0.2, roughness=0.3, metal=0.6)
    tray = replace(tray, region=np.zeros(shape, np.bool_))
    dx, dy = jitter(piece, number, pitch * 0.02)
    turn, _ = jitter(piece, number, 1.5)
    lx, ly = u - dx, v - dy
    x, y = field(lx * np.cos(turn) - ly * np.sin(turn)), field(lx * np.sin(turn) + ly * np.cos(turn))
    outline = hexagon(x, y, radius * 0.9) if nut else circle(x, y, radius)
    ring = field(np.maximum(outline, -circle(x, y, radius * bore)))
    cloud = fractal(piece, shape, 25.0)
    tones = piece.normal(1, 0.04, 256).astype(np.float32)[number.astype(np.int32)]
    albedo = tinted(colour, field(tones * (1 + 0.04 * cloud + 0.03 * fine)))
    height = (9 if nut else 1) + 2.5 * dome(ring, 5.0) + 0.25 * cloud + 0.05 * fine
    cover = plane.cover(field(np.where(number > 0, ring, 9)))
    full = place(tray, cover, albedo, field(height), 0.65, metal=0.95, roughness=0.3)
    labels = np.where((outline < 1) & (number > 0), number, 0).astype(np.int32)
    return replace(full, base=tray, parts=labels)


def connector(scene: Scene) -> Material:
    """A plastic pin header: rows of metal pins in a moulded housing, any pin may be missing."""
    style, piece, ground = scene.style, scene.piece, backdrop(scene)
    columns, rows = int(style.integers(4, 10)), int(style.integers(1, 4))
    pitch = min(310 / columns, 200 / rows, 56)
    housing = pigment(style, vivid=0.8, dark=0.13, light=0.9)
    gold = rgb(0.9, 0.76, 0.42) if style.uniform() < 0.5 else rgb(0.8, 0.8, 0.82)
    pin_radius, wall = pitch * style.uniform(0.16, 0.22), style.uniform(12, 20)
    plane = scene.plane(shift=9.0, turn=0.05, angle=style.choice([0.0, np.pi / 2]))
    half_width, half_height = columns * pitch / 2, rows * pitch / 2
    outer = box(plane.x, plane.y, half_width + wall, half_height + wall, 6.0)
    inner = box(plane.x, plane.y, half_width + 3, half_height + 3, 4.0)
    notch = box(plane.x, field(plane.y - np.float32(half_height + wall)), 22.0, wall, 2.0)
    wall_shape = field(np.maximum(outer, np.maximum(-inner, -notch)))
    grit = fractal(piece, scene.shape, 4.0, octaves=3, gain=0.8)
    plastic = tinted(housing, field(1 + 0.03 * grit))
    shell = place(ground, plane.cover(outer), plastic, field(3 + 0.08 * grit), 0.25, metal=0.35, roughness=0.3)
    shell = place(shell, plane.cover(wall_shape), plastic, field(13 + dome(wall_shape, 3.0) + 0.08 * grit), 0.25)
    u, v, number = grid_slots(plane, columns, rows, pitch, pitch)
    socket = plane.cover(field(np.where(number > 0, box(u, v, pin_radius * 1.5, pin_radius * 1.5, 1.0), 9)))
    shell = shell.blend(socket, albedo=plastic * np.float32(0.45), height=field(shell.height - 1.5))
    dx, dy = jitter(piece, number, pitch * 0.012)
    pin = box(field(u - dx), field(v - dy), pin_radius, pin_radius, pin_radius * 0.3)
    bright = tinted(gold, field(1 + 0.04 * grit))
    cover = plane.cover(field(np.where(number > 0, pin, 9)))
    full = place(shell, cover, bright, field(7 + 4 * dome(pin, pin_radius) + 0.05 * grit), 0.8)
    labels = np.where((pin < 1.5) & (number > 0), number, 0).astype(np.int32)
    return replace(full, base=replace(shell, metal=full.metal), parts=labels)


TRAYS: dict[str, Surface] = {
    "blister_pack": blister_pack,
    "washer_tray": washer_tray,
    "connector": connector,
}
