"""Objects: one manufactured part on a background. `PARTS` maps a category to its function."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from sowa.synthetic.fields import (
    Field,
    Plane,
    box,
    circle,
    dome,
    field,
    fractal,
    grain,
    hsv,
    mix,
    paint,
    pigment,
    rgb,
    scaled,
    smoothstep,
    tinted,
)
from sowa.synthetic.material import Material, Scene
from sowa.synthetic.surfaces import Surface, metal_colour, plain


def backdrop(scene: Scene) -> Material:
    """What parts lie on: matte plastic, a ribbed conveyor belt, foam or a sheet of paper, in any colour."""
    style, piece, shape = scene.style, scene.piece, scene.shape
    kind, is_dark, pitch = style.choice(4), style.uniform() < 0.6, style.uniform(5, 12)
    colour = pigment(style, vivid=0.22, dark=0.1 if is_dark else 0.6, light=0.35 if is_dark else 0.95)
    plane = scene.plane(shift=200.0, turn=0.01, angle=style.uniform(0, np.pi))
    cloud, fine = fractal(piece, shape, 120.0, octaves=3), fractal(piece, shape, 4.0, octaves=3, gain=0.8)
    wave = 2 * np.pi / pitch
    reliefs = [
        0.04 * fine,
        0.35 * np.cos(plane.x * np.float32(wave)) * np.cos(plane.y * np.float32(wave)) + 0.05 * fine,
        0.35 * fine,
        0.06 * fine,
    ]
    albedo = tinted(colour, field(1 + 0.035 * cloud + (0.05 if kind == 2 else 0.02) * fine))
    gloss, nothing = (0.25, 0.1, 0.0, 0.03)[kind], np.zeros(shape, np.bool_)
    return replace(plain(scene, albedo, field(reliefs[kind]), gloss, roughness=0.35), region=nothing)


def place(
    below: Material,
    cover: Field,
    albedo: Field,
    height: Field,
    gloss: float | Field,
    *,
    roughness: float | None = None,
    metal: float | None = None,
) -> Material:
    """Lay a part over a material. Roughness and metal hold for the whole scene.

    Args:
        below: The material.
        cover: Where the part is, (H, W) in 0..1.
        albedo: The part's, (H, W, 3).
        height: Likewise, (H, W).
        gloss: Likewise, (H, W) or one number.
        roughness: None leaves it as it is below.
        metal: Likewise.
    """
    gloss_field = np.broadcast_to(np.float32(gloss), cover.shape).astype(np.float32)
    laid = below.blend(cover, albedo=albedo, height=height, gloss=gloss_field)
    region = (cover > 0.5) | below.region
    return replace(
        laid,
        region=region,
        base=below,
        casts_shadow=True,
        roughness=below.roughness if roughness is None else roughness,
        metal=below.metal if metal is None else metal,
    )


def machined(scene: Scene, plane: Plane, colour: Field) -> tuple[Field, Field]:
    """Albedo and relief of turned metal: fine rings round the part's centre, and clouds.

    Args:
        scene: That draws them.
        plane: The part's.
        colour: The metal's, (3,).
    """
    rings = np.sin(np.sqrt(plane.x**2 + plane.y**2) * np.float32(scene.style.uniform(1.5, 2.6)))
    cloud, fine = fractal(scene.piece, scene.shape, 40.0), grain(scene.piece, scene.shape)
    albedo = tinted(colour, field(1 + 0.03 * rings + 0.05 * cloud + 0.02 * fine))
    return albedo, field(0.07 * rings + 0.25 * cloud + 0.02 * fine)


def gear(scene: Scene) -> Material:
    """A spur gear with hub, bore and, on some product lines, lightening holes; lies at any angle."""
    style, ground = scene.style, backdrop(scene)
    teeth, radius = int(style.integers(12, 30)), style.uniform(125, 155)
    depth, bore = style.uniform(0.9, 1.25) * 5.5 * radius / (2 * teeth) * 0.8, style.uniform(0.13, 0.26)
    spokes, recess = int(style.choice([0, 0, 4, 5, 6])), style.uniform(1.5, 4.0)
    plane = scene.plane(shift=9.0, turn=np.pi)
    distance, angle = np.hypot(plane.x, plane.y), np.arctan2(plane.y, plane.x)
    tooth = np.clip(1.5 * np.cos(angle * np.float32(teeth)), -0.8, 0.8) / np.float32(0.8)
    rim = field(distance - np.float32(radius - depth / 2) - np.float32(depth / 2) * tooth)
    solid = np.maximum(rim * np.float32(0.75), np.float32(radius * bore) - distance)
    if spokes:
        sector = 2 * np.pi / spokes
        a = np.mod(angle, np.float32(sector)) - np.float32(sector / 2)
        middle = np.float32(radius * 0.55)
        opening = circle(field(distance * np.cos(a) - middle), field(distance * np.sin(a)), radius * 0.14)
        solid = np.maximum(solid, -opening)
    hub = field(distance - np.float32(radius * (bore + 0.14)))
    web = np.maximum(distance - np.float32(radius - depth * 2.0), -hub)
    albedo, relief = machined(scene, plane, metal_colour(style))
    bevel = dome(field(solid), 3.0) * 2
    height = 11 + bevel - np.float32(recess) * smoothstep(1.5, -1.5, field(web)) + relief
    return place(ground, plane.cover(field(solid)), albedo, field(height), 0.7, metal=0.95, roughness=0.3)


def bearing(scene: Scene) -> Material:
    """A ball bearing without shield: two rings, a cage and balls, any of which may be missing."""
    style, ground = scene.style, backdrop(scene)
    balls, radius = int(style.integers(8, 14)), style.uniform(125, 155)
    track, bore = style.uniform(0.66, 0.74), style.uniform(0.38, 0.46)
    ball_radius = radius * min(0.105, 0.8 * np.pi * track / balls)
    cage_colour = metal_colour(style) if style.uniform() < 0.5 else pigment(style)
    plane = scene.plane(shift=8.0, turn=np.pi)
    distance, angle = np.hypot(plane.x, plane.y), np.arctan2(plane.y, plane.x)
    groove = np.float32(radius * 0.125)
    around = np.abs(distance - np.float32(radius * track)) - groove
    whole = np.maximum(distance - np.float32(radius), np.float32(radius * bore) - distance)
    steel = rgb(0.72, 0.73, 0.75)
    albedo, relief = machined(scene, plane, steel)
    rings = np.maximum(whole, -around)
    part = place(ground, plane.cover(field(whole)), albedo * np.float32(0.12), field(2 + relief), 0.2)
    part = place(part, plane.cover(field(rings)), albedo, field(12 + 2.5 * dome(field(rings), 6.0) + relief), 0.75)
    cage = np.abs(distance - np.float32(radius * track)) - np.float32(radius * 0.05)
    cage_albedo = tinted(cage_colour, field(1 + 0.04 * fractal(scene.piece, scene.shape, 12.0)))
    part = place(part, plane.cover(field(cage)), cage_albedo, field(6 + dome(field(cage), 4.0)), 0.4)
    pitch = np.float32(2 * np.pi / balls)
    number = np.floor(angle / pitch)
    a = angle - (number + np.float32(0.5)) * pitch
    ball = circle(field(distance * np.cos(a) - np.float32(radius * track)), field(distance * np.sin(a)), ball_radius)
    cover = plane.cover(ball)
    shiny = paint(scene.shape, rgb(0.8, 0.81, 0.83))
    full = place(part, cover, shiny, field(4 + ball_radius * dome(ball, ball_radius)), 0.95, metal=1.0, roughness=0.25)
    labels = np.where(ball < 1, np.mod(number, np.float32(balls)) + 1, 0).astype(np.int32)
    return replace(full, base=replace(part, metal=1.0, roughness=0.25), parts=labels)


def capsule(scene: Scene) -> Material:
    """A two-part medicine capsule with imprint."""
    style, ground = scene.style, backdrop(scene)
    long, radius = style.uniform(120, 150), style.uniform(42, 58)
    one, two = (pigment(style, vivid=0.85, dark=0.3) for _ in range(2))
    seam, print_dark = style.uniform(-0.2, 0.2) * long, style.uniform() < 0.5
    text = "".join(style.choice(list("ABCEHKLMNPRSTX0123456789"), 3))
    plane = scene.plane(shift=14.0, turn=0.16, angle=style.uniform(-np.pi, np.pi))
    # the cap slides over the body: a little wider
    wide = field(radius + np.float32(1.8) * smoothstep(-0.6, 0.6, field(plane.x - np.float32(seam))))
    along = np.maximum(np.abs(plane.x) - np.float32(long - radius), 0)
    edge = field(np.hypot(along, plane.y) - wide)
    shape_height = np.sqrt(np.clip(1 - np.clip(1 + edge / wide, 0, 1) ** 2, 0, 1)) * wide
    cap = smoothstep(-0.6, 0.6, field(plane.x - np.float32(seam)))
    albedo = mix(paint(scene.shape, one), two, cap)
    albedo = scaled(albedo, field(1 + 0.012 * fractal(scene.piece, scene.shape, 20.0)))
    near_seam = np.exp(-(((plane.x - np.float32(seam) + 2) / 2) ** 2)) * 0.25
    ink = printed(scene, plane, text, (seam + long) / 2 + 2, 34.0)
    albedo = mix(scaled(albedo, field(1 - near_seam)), rgb(0.1, 0.1, 0.13) if print_dark else rgb(0.9, 0.9, 0.9), ink)
    height = field(0.7 * shape_height + 0.05 * fractal(scene.piece, scene.shape, 14.0))
    return place(ground, plane.cover(edge), albedo, height, 0.8, roughness=style.uniform(0.07, 0.16))


def printed(scene: Scene, plane: Plane, text: str, x: float, size: float) -> Field:
    """Ink coverage of a line of text, (H, W) in 0..1, a little worn.

    Args:
        scene: That draws the wear.
        plane: The part's.
        text: The line.
        x: Its middle is (x, 0), reference pixels.
        size: How high letters are, reference pixels.
    """
    font, scale = cv2.FONT_HERSHEY_DUPLEX, 2.0
    (width, height), _ = cv2.getTextSize(text, font, scale, 5)
    stamp = np.zeros((height + 24, width + 24), np.uint8)
    cv2.putText(stamp, text, (12, height + 12), font, scale, 255, 5, cv2.LINE_AA)
    zoom = np.float32(height / size)
    map_x = field((plane.x - np.float32(x)) * zoom + np.float32(stamp.shape[1] / 2))
    map_y = field(plane.y * zoom + np.float32(stamp.shape[0] / 2))
    ink = cv2.remap(field(stamp) / np.float32(255), map_x, map_y, cv2.INTER_LINEAR, borderValue=0)
    worn = 0.85 + 0.06 * fractal(scene.piece, scene.shape, 5.0, octaves=2)
    return field(np.clip(field(ink) * worn, 0, 1))


def screw(scene: Scene) -> Material:
    """A machine screw seen from the side."""
    style, ground = scene.style, backdrop(scene)
    length, radius = style.uniform(190, 240), style.uniform(18, 30)
    head_radius, head_length = radius * style.uniform(1.6, 2.1), radius * style.uniform(1.0, 1.6)
    pitch, thread, shank = style.uniform(8, 14), style.uniform(3, 5.5), style.uniform(0.0, 0.35)
    rounded, tip = style.uniform() < 0.5, style.uniform(2, 10)
    plane = scene.plane(shift=10.0, turn=0.25, angle=style.uniform(-np.pi, np.pi))
    x, y = field(plane.x + np.float32(length / 2)), plane.y
    start = head_length + length * shank
    threaded = smoothstep(start, start + 4, x)
    phase = (x + y * np.float32(pitch / (4 * radius))) / np.float32(pitch)
    ridge = np.abs(2 * (phase - np.floor(phase)) - 1)
    local = field(radius - np.float32(thread) * (1 - ridge) * threaded)
    local = field(local - np.maximum(x - np.float32(length - tip), 0) * np.float32(0.8))
    shaft = field(np.maximum(np.abs(y) - local, np.maximum(-x, x - np.float32(length))))
    head = box(
        field(x - np.float32(head_length / 2)),
        y,
        head_length / 2,
        head_radius,
        head_length * 0.45 if rounded else 3,
    )
    round_shaft = 0.75 * np.sqrt(np.clip(local**2 - y * y, 0, None))
    round_head = 0.6 * np.sqrt(np.clip(np.float32(head_radius) ** 2 - y * y, 0, None)) * dome(head, head_length * 0.5)
    cloud, fine = fractal(scene.piece, scene.shape, 20.0), fractal(scene.piece, scene.shape, 3.0, octaves=2)
    albedo = tinted(metal_colour(style), field(1 + 0.04 * cloud + 0.03 * fine))
    height = np.where(head < 0, np.maximum(round_head, round_shaft * (shaft < 0)), round_shaft) + 0.08 * fine
    cover = plane.cover(field(np.minimum(shaft, head)))
    return place(ground, cover, albedo, field(height), 0.75, metal=0.95, roughness=0.3)


def bottle_mouth(scene: Scene) -> Material:
    """A glass bottle seen from above: finish, shoulders and the dim inside."""
    style, ground = scene.style, backdrop(scene)
    hue, saturation = style.choice([0.07, 0.09, 0.28, 0.38, 0.55]), style.uniform(0.15, 0.75)
    value, radius = style.uniform(0.45, 0.8), style.uniform(145, 170)
    mouth, lip = style.uniform(0.36, 0.5), style.uniform(0.09, 0.14)
    plane = scene.plane(shift=7.0, turn=np.pi)
    distance = field(np.hypot(plane.x, plane.y) / np.float32(radius))
    edge = field((distance - 1) * np.float32(radius))
    sway = fractal(scene.piece, scene.shape, 90.0, octaves=2)
    # glass is darkest where the sight line runs along the wall
    wall = np.exp(-(((distance - 0.97) / 0.05) ** 2)) + 0.7 * np.exp(-(((distance - mouth - lip) / 0.03) ** 2))
    # and the background, bent by the glass, shows as thin bright and dark rings
    rings = np.zeros(scene.shape, np.float32)
    for at, width, strength in style.uniform((0.3, 0.004, -0.35), (1.0, 0.03, 0.45), (9, 3)):
        rings += np.float32(strength) * np.exp(-(((distance - np.float32(at) + 0.004 * sway) / np.float32(width)) ** 2))
    backlight = float(np.clip(0.35 + 1.3 * ground.albedo[::8, ::8].mean(), 0.35, 1.1))
    inside = smoothstep(mouth + 0.01, mouth - 0.03, distance)
    shade = backlight * (0.75 + rings - 0.5 * np.clip(wall, 0, 1)) * (1 - 0.6 * inside)
    albedo = tinted(hsv(hue, saturation, value), field(np.clip(shade, 0.02, 1) * (1 + 0.02 * sway)))
    ring = field(np.abs(distance - np.float32(mouth + lip / 2)) * np.float32(radius) - np.float32(radius * lip / 2))
    shoulder = 30 * dome(edge, radius * (1 - mouth - lip)) - 26 * inside
    height = field(shoulder + 9 * dome(ring, radius * lip / 2) + 0.6 * sway)
    roughness = style.uniform(0.06, 0.12)
    gloss = field(0.9 * (1 - 0.9 * inside))
    bottle = place(ground, plane.cover(edge), albedo, height, gloss, roughness=roughness)
    # a piece off the mouth bares the dim inside, one off the shoulder the background
    dim = tinted(hsv(hue, saturation, value * 0.5), field(0.5 + 0.05 * sway))
    inner = smoothstep(mouth + lip + 0.08, mouth + lip + 0.02, distance)
    hollow = ground.blend(inner, albedo=dim, height=field(height - 8), gloss=field(0.3 * gloss))
    return replace(bottle, base=hollow, region=bottle.region & (inside < 0.5))


PARTS: dict[str, Surface] = {
    "gear": gear,
    "bearing": bearing,
    "capsule": capsule,
    "screw": screw,
    "bottle_mouth": bottle_mouth,
}
