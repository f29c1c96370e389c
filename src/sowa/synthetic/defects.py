"""Defects: each changes a material before light falls on it, so that it shares shading, blur and noise.

A defect is `(material, rng, severity 0..1) -> material`. `DEFECTS` maps a defect type to its function.
Lengths in reference pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator

from sowa.synthetic.fields import Field, blur, field, fractal, grain, hsv, mix, paint, rgb, scaled, smoothstep, tinted
from sowa.synthetic.marks import blob, distance_inside, rim, site, stroke, walk
from sowa.synthetic.material import Material

Defect = Callable[[Material, Generator, float], Material]


def contrast_colour(material: Material, weight: Field, rng: Generator, lighter: bool | None = None) -> Field:
    """A colour (3,) clearly lighter or darker than the material, greyer unless metal.

    Args:
        material: Below the defect.
        weight: Where the colour is going to be, (H, W) in 0..1.
        rng: Draws it.
        lighter: Or darker; drawn by default.
    """
    total = max(float(weight.sum()), 1e-3)
    red, green, blue = (float((plane * weight).sum()) / total for plane in cv2.split(material.albedo))
    level = np.sqrt(max((red + green + blue) / 3, 1e-4))
    if lighter is None:
        lighter = level < 0.45 or (level < 0.6 and rng.uniform() < 0.5)
    value = min(level + rng.uniform(0.2, 0.35), 0.97) if lighter else max(level - rng.uniform(0.22, 0.4), 0.05)
    grey = rgb(value, value * rng.uniform(0.95, 1.0), value * rng.uniform(0.9, 1.0))
    own = field([red, green, blue]) * np.float32((value / level) ** 2)
    return field(np.clip(grey + (own - grey) * np.float32(max(material.metal, 0.3)), 0, 1))


def scratch(material: Material, rng: Generator, severity: float) -> Material:
    """One to four grooves side by side: thrown-up lips, bared or burnished floor, skips along the way."""
    unit, angle = material.unit, rng.uniform(0, np.pi)
    row, column = site(material, rng, 6.0)
    groove = np.zeros(material.shape, np.float32)
    for _ in range(int(rng.integers(1, 3 + round(2 * severity)))):
        length = rng.uniform(35, 90 + 160 * severity) * unit
        beside = rng.normal(0, 5 * unit, 2)
        centre = int(row + beside[0]), int(column + beside[1])
        path = walk(rng, centre, length, angle + rng.normal(0, 0.06), 0.02 * rng.uniform(), 0)
        width = max(rng.uniform(0.7, 1.1 + 1.5 * severity) * unit, 0.6)
        groove = np.maximum(groove, stroke(material.shape, path, width))
    pressure = np.clip(1 + 0.35 * fractal(rng, material.shape, 25.0, octaves=3), 0.15, 1)
    groove = field(groove * pressure * (blur(material.region.astype(np.float32), 0.7 * unit)))
    lips = blur(groove, 1.3 * unit)
    height = field(material.height - np.float32(1.6) * groove + np.float32(0.8) * (lips - 0.4 * groove))
    bared = contrast_colour(material, groove, rng)
    scratched = material.blend(field(groove * rng.uniform(0.45, 0.85)), albedo=paint(material.shape, bared))
    return replace(scratched, height=height)


def crack(material: Material, rng: Generator, severity: float) -> Material:
    """A jagged, branching, dark fissure."""
    unit, angle = material.unit, rng.uniform(0, 2 * np.pi)
    centre = site(material, rng, 10.0)
    trunk = walk(rng, centre, rng.uniform(60, 100 + 150 * severity) * unit, angle, 0.3, 9)
    width = max(rng.uniform(0.9, 1.4 + 1.3 * severity) * unit, 0.8)
    gap = stroke(material.shape, trunk, width)
    for _ in range(int(rng.integers(0, 2 + round(2 * severity)))):
        fork = trunk[int(rng.integers(len(trunk) // 4, 3 * len(trunk) // 4))]
        side = angle + rng.choice([-1, 1]) * rng.uniform(0.4, 0.9)
        branch = walk(rng, (int(fork[1]), int(fork[0])), rng.uniform(20, 70) * unit, side, 0.3, 5)
        branch = field(branch - branch[0] + fork)
        gap = np.maximum(gap, stroke(material.shape, branch, width * 0.6))
    gap = field(gap * blur(material.region.astype(np.float32), 0.7 * unit))
    dark = field(material.albedo * np.float32(rng.uniform(0.05, 0.2)))
    deep = field(material.height - np.float32(3.0) * gap + np.float32(0.5) * blur(gap, 2.0 * unit))
    opened = material.blend(gap, albedo=dark, gloss=np.zeros(material.shape, np.float32))
    return replace(opened, height=deep)


def hole(material: Material, rng: Generator, severity: float) -> Material:
    """A ragged hole with a rounded rim: a blow hole, a puncture, a burst."""
    radius = rng.uniform(5, 8 + 14 * severity)
    centre = site(material, rng, radius * 1.3)
    pit = blob(material, rng, centre, radius, rough=rng.uniform(0.08, 0.3), soft=0.12)
    wall = blur(pit, 0.25 * radius * material.unit)
    floor = material.albedo * np.float32(rng.uniform(0.2, 0.5) ** 2)
    rough_floor = scaled(floor, field(1 + 0.15 * fractal(rng, material.shape, 5.0)))
    punched = material.blend(pit, albedo=rough_floor, gloss=np.zeros(material.shape, np.float32))
    raised = 0.9 * (blur(pit, 0.5 * radius * material.unit) - wall)
    return replace(punched, height=field(material.height - np.float32(5.0) * wall + np.float32(2.0) * raised))


def stain(material: Material, rng: Generator, severity: float) -> Material:
    """Dried liquid: a few merging drops, darker towards the border, now and then glossy oil."""
    centre = site(material, rng, 8.0)
    spread, oil = rng.uniform(12, 20 + 34 * severity), rng.uniform() < 0.35
    wet = np.zeros(material.shape, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        beside = rng.normal(0, 0.7 * spread * material.unit, 2)
        drop = int(centre[0] + beside[0]), int(centre[1] + beside[1])
        wet = np.maximum(wet, blob(material, rng, drop, spread * rng.uniform(0.4, 1.0), rough=0.16, soft=0.12))
    wet = field(wet * blur(material.region.astype(np.float32), 0.7 * material.unit))
    ring = np.clip(wet - blur(wet, 2.2 * material.unit), 0, 1) * 1.6
    patchy = 0.75 + 0.12 * fractal(rng, material.shape, 14.0)
    strength = np.clip(wet * patchy * rng.uniform(0.45, 0.85) + ring * 0.5, 0, 1)
    dye = hsv(rng.choice([0.07, 0.09, 0.6, rng.uniform()]), rng.uniform(0.1, 0.7), rng.uniform(0.25, 0.6))
    dyed = material.albedo * (np.float32(0.15) + dye * np.float32(1.2))
    if material.albedo.mean() < 0.06:  # a dark surface shows dried salts, not dye
        dyed = material.albedo + dye * np.float32(0.7)
    gloss = field(np.clip(material.gloss + (0.4 if oil else -0.3), 0, 1))
    return material.blend(field(strength), albedo=field(np.clip(dyed, 0, 1)), gloss=gloss)


def missing_part(material: Material, rng: Generator, severity: float) -> Material:
    """One removable part, or now and then two, never mounted."""
    if material.parts is None:
        return material
    numbers, areas = np.unique(material.parts[material.parts > 0], return_counts=True)
    whole = numbers[areas >= 0.5 * np.median(areas)] if numbers.size else numbers
    many = 2 if severity > 0.7 and len(whole) > 6 and rng.uniform() < 0.5 else 1
    gone = rng.permutation(whole)[:many]
    weight = np.isin(material.parts, gone).astype(np.uint8)
    grown = cv2.dilate(weight, np.ones((3, 3), np.uint8))
    return material.reveal(blur(field(grown), 0.5))


def dent(material: Material, rng: Generator, severity: float) -> Material:
    """A knock: a smooth hollow with a slight swelling round it, creased in the middle."""
    radius = rng.uniform(11, 16 + 24 * severity)
    centre = site(material, rng, radius * 0.8)
    hollow = blob(material, rng, centre, radius, rough=0.12, soft=0.65)
    depth = radius * rng.uniform(0.25, 0.3 + 0.25 * severity)
    swelling = blur(hollow, 0.3 * radius * material.unit) - hollow
    inside = blur(material.region.astype(np.float32), 0.7 * material.unit)
    change = (np.float32(0.4) * np.maximum(swelling, 0) - hollow) * np.float32(depth) * inside
    scuffed = np.float32(0.25) * hollow * np.clip(fractal(rng, material.shape, 7.0), 0, 1) * inside
    bruised = material.blend(field(scuffed), albedo=field(material.albedo * np.float32(0.6)))
    return replace(bruised, height=field(material.height + change))


def contamination(material: Material, rng: Generator, severity: float) -> Material:
    """Foreign matter lying on top: a fibre, or a cluster of crumbs."""
    unit, centre = material.unit, site(material, rng, 5.0)
    tone = contrast_colour(material, material.region.astype(np.float32), rng)
    tone = field(np.clip(tone * (0.75 + 0.5 * hsv(rng.uniform(), rng.uniform(0, 0.8), 1.0)), 0, 1))
    if rng.uniform() < 0.5:
        path = walk(
            rng,
            centre,
            rng.uniform(40, 70 + 90 * severity) * unit,
            rng.uniform(0, 6.3),
            rng.uniform(0.1, 0.8),
            0,
        )
        width = max(rng.uniform(0.8, 1.1 + 1.0 * severity) * unit, 0.7)
        matter = stroke(material.shape, path, width, taper=False)
        tall = 1.6
    else:
        matter, tall = np.zeros(material.shape, np.float32), rng.uniform(2, 4)
        for _ in range(int(rng.integers(1, 4))):
            beside = rng.normal(0, 9 * unit, 2)
            crumb = int(centre[0] + beside[0]), int(centre[1] + beside[1])
            radius = rng.uniform(3, 5 + 8 * severity)
            matter = np.maximum(matter, blob(material, rng, crumb, radius, rough=0.3, soft=0.12))
    body = 1 + 0.12 * fractal(rng, material.shape, 4.0, octaves=3)
    colour = tinted(tone, field(body))
    on_top = field(blur(material.height, 2 * unit) + np.float32(tall) * blur(matter, 0.8 * unit) + 0.2 * body)
    gloss = np.full(material.shape, rng.uniform(0, 0.5), np.float32)
    return replace(material.blend(matter, albedo=colour, height=on_top, gloss=gloss), casts_shadow=True)


def chip(material: Material, rng: Generator, severity: float) -> Material:
    """A piece broken out of an edge: what lies below shows, framed by a pale, rough fracture."""
    radius = rng.uniform(7, 12 + 15 * severity)
    centre = rim(material, rng)
    bite = blob(material, rng, centre, radius, rough=0.22, soft=0.08)
    fracture = blob(material, rng, centre, radius * rng.uniform(1.1, 1.4), rough=0.22, soft=0.1)
    facets = fractal(rng, material.shape, 6.0, octaves=3)
    body = blur(material.region.astype(np.float32), 0.5 * material.unit)
    fresh = contrast_colour(material, field(fracture * body), rng, lighter=rng.uniform() < 0.7)
    raw = scaled(mix(material.albedo, fresh, field(0.7 * body)), field(1 + 0.08 * facets))
    broken = field(material.height - np.float32(2.2) * body + np.float32(0.5) * facets * body)
    dull = field(material.gloss * np.float32(0.4))
    chipped = material.blend(field(fracture * body), albedo=raw, height=broken, gloss=dull)
    return chipped.reveal(field(bite * body)) if material.base is not None else chipped


def discoloration(material: Material, rng: Generator, severity: float) -> Material:
    """A patch whose colour has changed but not its shape: heat tint, fading, wrong batch."""
    radius = rng.uniform(16, 26 + 34 * severity)
    centre = site(material, rng, radius * 0.4)
    patch = blob(material, rng, centre, radius, rough=0.2, soft=rng.uniform(0.3, 0.75))
    patch = field(patch * blur(material.region.astype(np.float32), 0.7 * material.unit))
    cast = hsv(rng.choice([0.08, 0.1, 0.6, rng.uniform()]), rng.uniform(0.05, 0.35), 1.0)
    brightness = rng.choice([rng.uniform(0.45, 0.7), rng.uniform(1.4, 2.0)])
    if material.albedo.mean() > 0.3:
        brightness = min(brightness, 0.7)
    changed = np.clip(material.albedo * cast * np.float32(brightness), 0, 1)
    return material.blend(field(patch * (0.55 + 0.45 * severity)), albedo=field(changed))


def burr(material: Material, rng: Generator, severity: float) -> Material:
    """A torn-up edge: bright ragged slivers that stand over the outline."""
    radius = rng.uniform(9, 14 + 16 * severity)
    unit, centre = material.unit, rim(material, rng)
    where = blob(material, rng, centre, radius, rough=0.2, soft=0.3)
    outside = distance_inside(~material.region, unit)
    reach = np.float32(2.0 + 3.0 * severity) + np.float32(2.2) * fractal(rng, material.shape, 7.0, octaves=3)
    close = smoothstep(2.5, 0.0, distance_inside(material.region, unit))
    sliver = where * np.where(material.region, close, smoothstep(0.4, -0.4, field(outside - reach)))
    jags = fractal(rng, material.shape, 4.0, octaves=3)
    row, column = centre
    edge_colour = material.albedo[row, column]
    bright = tinted(field(edge_colour + np.float32(0.03)), field(1.1 + 0.15 * jags))
    top = float(material.height[row, column])
    raised = np.full(material.shape, top, np.float32) + np.float32(2.0) * sliver + np.float32(0.8) * jags
    gloss = np.full(material.shape, 0.7, np.float32)
    return material.blend(field(sliver), albedo=bright, height=field(raised), gloss=gloss)


def corrosion(material: Material, rng: Generator, severity: float) -> Material:
    """Rust: a crusty orange-brown patch that thins out into specks."""
    radius = rng.uniform(14, 24 + 34 * severity)
    centre = site(material, rng, radius * 0.4)
    cloud = blob(material, rng, centre, radius, rough=0.35, soft=0.6)
    crumbs = fractal(rng, material.shape, 8.0, octaves=4, gain=0.7)
    eaten = smoothstep(0.35, 0.65, field(cloud * (0.75 + 0.25 * crumbs)))
    eaten = field(eaten * blur(material.region.astype(np.float32), 0.7 * material.unit))
    brown, orange = hsv(rng.uniform(0.02, 0.06), 0.65, 0.3), hsv(rng.uniform(0.05, 0.08), 0.75, 0.62)
    rust = mix(paint(material.shape, brown), orange, smoothstep(-1.2, 1.2, crumbs))
    rust = scaled(rust, field(1 + 0.08 * grain(rng, material.shape)))
    crust = field(material.height + np.float32(0.5) * crumbs + np.float32(0.6))
    matte = np.zeros(material.shape, np.float32)
    return material.blend(field(eaten * 0.92), albedo=rust, height=crust, gloss=matte)


def distortion(material: Material, rng: Generator, severity: float) -> Material:
    """A pattern pulled out of shape: bent wires, dragged threads, a warped grid."""
    radius = rng.uniform(22, 30 + 26 * severity)
    centre = site(material, rng, radius * 0.5)
    pull = blob(material, rng, centre, radius, rough=0.08, soft=0.9)
    far, angle = rng.uniform(5, 8 + 9 * severity) * material.unit, rng.uniform(0, 2 * np.pi)
    sway = 1 + 0.25 * fractal(rng, material.shape, 30.0, octaves=2)
    y, x = np.mgrid[0 : material.shape[0], 0 : material.shape[1]].astype(np.float32)
    map_x = field(x + pull * sway * np.float32(far * np.cos(angle)))
    map_y = field(y + pull * sway * np.float32(far * np.sin(angle)))
    albedo, height, gloss = (
        field(cv2.remap(layer, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))
        for layer in (material.albedo, material.height, material.gloss)
    )
    return replace(material, albedo=albedo, height=field(height - np.float32(0.05 * radius) * pull), gloss=gloss)


DEFECTS: dict[str, Defect] = {
    "scratch": scratch,
    "crack": crack,
    "hole": hole,
    "stain": stain,
    "missing_part": missing_part,
    "dent": dent,
    "contamination": contamination,
    "chip": chip,
    "discoloration": discoloration,
    "burr": burr,
    "corrosion": corrosion,
    "distortion": distortion,
}
