"""The printed circuit board: a drawn layout (traces, pads, components) warped into place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sowa.synthetic.fields import (
    REFERENCE_SIZE,
    Field,
    Plane,
    blur,
    box,
    dome,
    field,
    fractal,
    hsv,
    mix,
    paint,
    rgb,
    tinted,
)
from sowa.synthetic.material import Material, Scene
from sowa.synthetic.parts import backdrop, place

Stencil = NDArray[np.uint8]

SIDE = 768  # the layout is drawn at twice the reference scale, so that warping keeps edges crisp
SCALE = SIDE / REFERENCE_SIZE


@dataclass(frozen=True)
class Component:
    """A part soldered to the board; lengths in reference pixels.

    Attributes:
        x: Of its middle, from the board's.
        y: Likewise.
        half_width: Of its body.
        half_height: Of its body.
        tall: How far it stands up.
        kind: Which part it is.
        pins: How many.
    """

    x: float
    y: float
    half_width: float
    half_height: float
    tall: float
    kind: int  # 0 chip, 1 resistor, 2 ceramic capacitor, 3 round can
    pins: int


@dataclass(frozen=True)
class Layers:
    """What is drawn on the bare board, each (SIDE, SIDE) uint8 0..255.

    Attributes:
        copper: Traces.
        solder: Pads and vias.
        silk: Outlines and labels.
    """

    copper: Stencil
    solder: Stencil
    silk: Stencil


def printed_board(scene: Scene) -> Material:
    """A populated circuit board; any component may be missing and then bares its pads."""
    style, piece, ground = scene.style, scene.piece, backdrop(scene)
    half_width, half_height = style.uniform(150, 180), style.uniform(120, 165)
    mask_hue = style.choice([0.38, 0.4, 0.36, 0.62, 0.0, 0.75])
    mask_colour = hsv(mask_hue, style.uniform(0.5, 0.85), style.uniform(0.2, 0.5))
    silk_colour, finish = (
        rgb(0.9, 0.9, 0.86),
        rgb(0.9, 0.78, 0.45) if style.uniform() < 0.5 else rgb(0.72, 0.72, 0.72),
    )
    components = lay_out(style, half_width, half_height)
    layers = draw_layers(style, components, half_width, half_height)
    plane = scene.plane(shift=7.0, turn=0.04, angle=style.choice([0.0, np.pi / 2]))
    copper, solder, silk = (_warp(layer, plane) for layer in (layers.copper, layers.solder, layers.silk))
    fine, cloud = fractal(piece, scene.shape, 4.0, octaves=3, gain=0.8), fractal(piece, scene.shape, 90.0)
    albedo = tinted(mask_colour, field(1 + 0.45 * copper + 0.03 * cloud + 0.02 * fine))
    albedo = mix(mix(albedo, silk_colour, field(silk * (0.85 + 0.05 * fine))), finish, solder)
    edge = box(plane.x, plane.y, half_width, half_height, 5.0)
    bumps = 4 + 0.25 * copper + 0.9 * blur(solder, 1.5 * scene.unit) + 0.1 * fine
    gloss = field(0.35 + 0.4 * solder)
    bare = place(ground, plane.cover(edge), albedo, field(bumps), gloss, metal=0.55, roughness=0.25)
    return replace(_populate(scene, plane, bare, components), base=bare)


def lay_out(style: Generator, half_width: float, half_height: float) -> list[Component]:
    """Put components on the board without overlaps: big chips first, then small parts.

    Args:
        style: Of the product line.
        half_width: Of the board, reference pixels.
        half_height: Likewise.
    """
    placed: list[Component] = []
    wanted = [0] * int(style.integers(1, 4)) + [3] * int(style.integers(0, 4)) + [1] * 12 + [2] * 10
    for kind in wanted:
        for _ in range(12):
            part = _draw_component(style, kind, half_width, half_height)
            if all(_apart(part, other) for other in placed):
                placed.append(part)
                break
    return placed


def _draw_component(style: Generator, kind: int, half_width: float, half_height: float) -> Component:
    long = (style.uniform(24, 48), 9.0, 7.0, style.uniform(13, 22))[kind]
    short = (style.uniform(18, 32), 4.5, 4.5, long)[kind]
    if style.uniform() < 0.5:
        long, short = short, long
    margin = 20 if kind == 0 else 10
    x = style.uniform(-1, 1) * max(half_width - long - margin, 0)
    y = style.uniform(-1, 1) * max(half_height - short - margin, 0)
    tall = (5.0, 2.5, 3.5, 14.0)[kind]
    return Component(round(x / 4) * 4, round(y / 4) * 4, long, short, tall, kind, int(style.integers(5, 12)))


def _apart(one: Component, two: Component) -> bool:
    gap = 12 + 8 * (one.kind == 0) + 8 * (two.kind == 0)
    far_x = abs(one.x - two.x) > one.half_width + two.half_width + gap
    return far_x or abs(one.y - two.y) > one.half_height + two.half_height + gap


def pads(part: Component) -> list[tuple[float, float, float, float]]:
    """The solder pads below a component: x, y, half width, half height."""
    if part.kind == 0:
        steps = np.linspace(-part.half_width + 4, part.half_width - 4, part.pins)
        reach = part.half_height + 5
        return [(part.x + s, part.y + side * reach, 1.6, 5.0) for s in steps for side in (-1, 1)]
    if part.kind == 3:
        return [(part.x + side * part.half_width * 0.6, part.y, 6.0, 4.0) for side in (-1, 1)]
    if part.half_width > part.half_height:
        return [(part.x + side * part.half_width, part.y, 4.0, part.half_height + 1) for side in (-1, 1)]
    return [(part.x, part.y + side * part.half_height, part.half_width + 1, 4.0) for side in (-1, 1)]


def _at(x: float, y: float) -> tuple[int, int]:
    return round(x * SCALE + SIDE / 2), round(y * SCALE + SIDE / 2)


def draw_layers(style: Generator, components: list[Component], half_width: float, half_height: float) -> Layers:
    """Draw traces from pad to pad, vias, pads, outlines and labels.

    Args:
        style: Of the product line.
        components: On the board.
        half_width: Of the board, reference pixels.
        half_height: Likewise.
    """
    copper, solder, silk = (np.zeros((SIDE, SIDE), np.uint8) for _ in range(3))
    boxed = style.uniform() < 0.5
    ends = [(x, y) for part in components for x, y, _, _ in pads(part)]
    ends += [(style.uniform(-1, 1) * half_width, style.uniform(-1, 1) * half_height) for _ in range(12)]
    for x, y in ends:
        to_x, to_y = ends[int(style.integers(len(ends)))]
        to_x, to_y = x + np.clip(to_x - x, -90, 90), y + np.clip(to_y - y, -90, 90)
        run = min(abs(to_x - x), abs(to_y - y))  # a 45 degree leg first, then a straight one
        knee = x + np.sign(to_x - x) * run, y + np.sign(to_y - y) * run
        path = np.array([_at(x, y), _at(*knee), _at(to_x, to_y)], np.int32)
        cv2.polylines(copper, [path], False, 255, int(style.choice([3, 4, 6])), cv2.LINE_AA)
        cv2.circle(solder, _at(to_x, to_y), 6, 255, -1, cv2.LINE_AA)
        cv2.circle(solder, _at(to_x, to_y), 2, 0, -1, cv2.LINE_AA)
    for x in (-half_width + 11, half_width - 11):
        for y in (-half_height + 11, half_height - 11):
            cv2.circle(solder, _at(x, y), 15, 255, 6, cv2.LINE_AA)
    for number, part in enumerate(components):
        w, h = part.half_width + 5, part.half_height + 5
        if part.kind == 3 or boxed:
            cv2.rectangle(silk, _at(part.x - w, part.y - h), _at(part.x + w, part.y + h), 255, 1, cv2.LINE_AA)
        label = f"{'URCC'[part.kind]}{number + 1}"
        cv2.putText(silk, label, _at(part.x - w, part.y - h - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
        for x, y, half_w, half_h in pads(part):
            cv2.rectangle(solder, _at(x - half_w, y - half_h), _at(x + half_w, y + half_h), 255, -1, cv2.LINE_AA)
            cv2.rectangle(silk, _at(x - half_w, y - half_h), _at(x + half_w, y + half_h), 0, -1)
    return Layers(copper, solder, silk)


def _warp(layer: Stencil, plane: Plane) -> Field:
    scale, middle = np.float32(SCALE), np.float32(SIDE / 2)
    small = plane.unit < 0.75 / SCALE * 2  # shrinking: average first, or thin lines flicker
    smooth = cv2.GaussianBlur(layer, (0, 0), 0.4 * SCALE / plane.unit) if small else layer
    map_x, map_y = field(plane.x * scale + middle), field(plane.y * scale + middle)
    warped = cv2.remap(smooth, map_x, map_y, cv2.INTER_LINEAR, borderValue=0)
    return field(field(warped) / np.float32(255))


def _populate(scene: Scene, plane: Plane, bare: Material, components: list[Component]) -> Material:
    """Solder every component on: painted in place within its own window of the image."""
    albedo, height, gloss = bare.albedo.copy(), bare.height.copy(), bare.gloss.copy()
    labels = np.zeros(scene.shape, np.int32)
    fine = fractal(scene.piece, scene.shape, 3.0, octaves=2)
    shifts = scene.piece.normal(0, 0.5, (len(components), 2))
    for number, (part, shift) in enumerate(zip(components, shifts, strict=True)):
        window = _window(plane, part)
        x = field(plane.x[window] - np.float32(part.x + shift[0]))
        y = field(plane.y[window] - np.float32(part.y + shift[1]))
        if not x.size:
            continue
        local = Plane(x, y, plane.unit)
        colour, edge, relief = _body(local, part, fine[window])
        cover = local.cover(edge)
        albedo[window] = mix(albedo[window], colour, cover)
        height[window] = mix(height[window], field(4 + relief), cover)
        gloss[window] = mix(gloss[window], np.where(colour[..., 0] > 0.4, np.float32(0.7), np.float32(0.2)), cover)
        labels[window][edge < 1.5] = number + 1
    return replace(bare, albedo=albedo, height=height, gloss=gloss, parts=labels)


def _window(plane: Plane, part: Component) -> tuple[slice, slice]:
    """The image's rows and columns that a component (with its leads) can touch."""
    reach = float(np.hypot(part.half_width, part.half_height)) + 14
    near = (np.abs(plane.x - np.float32(part.x)) < reach) & (np.abs(plane.y - np.float32(part.y)) < reach)
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _body(plane: Plane, part: Component, fine: Field) -> tuple[Field, Field, Field]:
    """Colour (h, w, 3), signed distance and height of one component in its own window."""
    x, y = plane.x, plane.y
    metal, black = rgb(0.66, 0.66, 0.66), rgb(0.13, 0.13, 0.14)
    shade = field(1 + 0.05 * fine)
    if part.kind == 3:
        edge = field(np.hypot(x, y) - np.float32(part.half_width))
        stripe = plane.cover(field(np.maximum(x + np.float32(part.half_width * 0.5), edge)))
        colour = mix(tinted(metal, shade), black, stripe)
        return colour, edge, field(part.tall - 2 + 2 * dome(edge, 3.0))
    edge = box(x, y, part.half_width, part.half_height, 1.0)
    if part.kind == 0:
        colour = tinted(black, shade)
        dot = np.hypot(x + np.float32(part.half_width - 6), y + np.float32(part.half_height - 6)) - 2.2
        colour = mix(colour, rgb(0.3, 0.3, 0.3), plane.cover(field(dot)))
        for row, length in ((-5.0, 0.55), (1.0, 0.4)):  # two lines of marking, broken up like letters
            line = np.maximum(np.abs(y - row) - 1.6, np.abs(x) - np.float32(part.half_width * length))
            letters = plane.cover(field(line)) * (np.sin(x * 2.1) + np.sin(x * 3.3 + row) > -0.2)
            colour = mix(colour, rgb(0.55, 0.55, 0.53), field(letters))
        return _with_leads(plane, part, colour, edge, metal)
    along, half = (x, part.half_width) if part.half_width > part.half_height else (y, part.half_height)
    ends = plane.cover(field(np.float32(half * 0.62) - np.abs(along)))
    middle = black if part.kind == 1 else rgb(0.62, 0.5, 0.38)
    colour = mix(tinted(middle, shade), metal, ends)
    return colour, edge, field(part.tall * (0.5 + 0.5 * dome(edge, 2.0)))


def _with_leads(plane: Plane, part: Component, colour: Field, edge: Field, metal: Field) -> tuple[Field, Field, Field]:
    """Add a chip's gull-wing leads to its body."""
    pitch = np.float32((2 * part.half_width - 8) / (part.pins - 1))
    u = plane.x + np.float32(part.half_width - 4)
    u = field(u - np.clip(np.round(u / pitch), 0, part.pins - 1) * pitch)
    lead = box(u, field(np.abs(plane.y) - np.float32(part.half_height + 3)), 1.2, 4.5)
    body = plane.cover(edge)
    colour = mix(paint((colour.shape[0], colour.shape[1]), metal), colour, body)
    relief = mix(np.full(edge.shape, 1.5, np.float32), field(part.tall - 1 + dome(edge, 2.5)), body)
    return colour, field(np.minimum(edge, lead)), relief
