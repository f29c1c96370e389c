"""The shared last stage: light on a material, then lens, sensor and image compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sowa.synthetic.fields import Field, Shape, blur, field, pixels_per_unit, smoothstep, stack
from sowa.synthetic.material import Material


@dataclass(frozen=True)
class Camera:
    """Lighting and imaging of one image."""

    light: tuple[float, float, float]  # unit vector towards the key light
    ambient: float  # share of light that comes from everywhere, 0..1
    tint: Field  # (3,) colour of the light
    falloff: tuple[float, float]  # relative brightness change from the middle to the right and the bottom
    vignette: float  # brightness lost in the corners, 0..1
    highlight: tuple[float, float]  # where in the image a flat mirror would show the light, -1..1
    environment: tuple[float, float, float]  # bands mirrored by metal: frequency, direction, phase
    exposure: float
    target: float  # mean brightness aimed at, linear
    blur: float  # lens blur, reference pixels
    read_noise: float
    shot_noise: float
    noise_size: float  # blur of the noise by demosaicing, image pixels
    sharpen: float
    jpeg_quality: int  # 0: not compressed


def draw_camera(style: Generator, piece: Generator) -> Camera:
    """Set a camera up.

    Args:
        style: Draws what a product line shares.
        piece: Draws the small drift of one image.
    """
    azimuth = style.uniform(0, 2 * np.pi) + piece.normal(0, 0.05)
    elevation = style.uniform(0.45, 1.1) + piece.normal(0, 0.015)
    warmth, green = style.normal(0, 0.05), style.normal(0, 0.012)
    falloff = style.normal(0, 0.09, 2) + piece.normal(0, 0.012, 2)
    highlight = style.uniform(-0.9, 0.9, 2) + piece.normal(0, 0.04, 2)
    noise = style.uniform(0.2, 1.0) ** 2
    return Camera(
        light=(
            float(np.cos(azimuth) * np.cos(elevation)),
            float(np.sin(azimuth) * np.cos(elevation)),
            float(np.sin(elevation)),
        ),
        ambient=style.uniform(0.3, 0.65),
        tint=field([1 + warmth, 1 + green, 1 - warmth]) * np.float32(piece.normal(1, 0.004, 3)),
        falloff=(float(falloff[0]), float(falloff[1])),
        vignette=style.uniform(0.03, 0.3),
        highlight=(float(highlight[0]), float(highlight[1])),
        environment=(style.uniform(3, 7), style.uniform(0, 2 * np.pi), style.uniform(0, 2 * np.pi)),
        exposure=piece.normal(1, 0.02),
        target=style.uniform(0.18, 0.42),
        blur=style.uniform(0.35, 0.95),
        read_noise=0.0005 + 0.0025 * noise,
        shot_noise=0.004 + 0.022 * noise,
        noise_size=style.uniform(0, 0.8),
        sharpen=max(0.0, style.uniform(-0.5, 0.7)),
        jpeg_quality=int(style.choice([0, 0, 80, 90, 95])),
    )


def illuminate(material: Material, camera: Camera) -> Field:
    """Light a material.

    Args:
        material: The scene.
        camera: With its light.

    Returns:
        Linear colour (H, W, 3) reaching the lens, about 0..1, without exposure.
    """
    slope_x, slope_y = _slopes(material)
    cosine = 1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    light_x, light_y, light_z = (np.float32(v) for v in camera.light)
    direct = np.maximum((light_z - slope_x * light_x - slope_y * light_y) * cosine / light_z, 0)
    around = _occlusion(material)
    if material.casts_shadow:
        direct = direct * _shadow(material, camera)
    diffuse = np.float32(camera.ambient) * around + np.float32(1 - camera.ambient) * direct
    mirror = material.gloss * _mirror(material, camera, field(slope_x * cosine), field(slope_y * cosine)) * around
    metal = np.float32(material.metal)
    matte = diffuse * (1 - metal * np.float32(0.85) * material.gloss)
    coloured, white = field(matte + metal * mirror), field((1 - metal) * np.float32(0.3) * mirror)
    return field(material.albedo * stack([coloured] * 3) + stack([white] * 3))


def _slopes(material: Material) -> tuple[Field, Field]:
    height = material.height * np.float32(material.unit / 32)
    return field(cv2.Scharr(height, cv2.CV_32F, 1, 0)), field(cv2.Scharr(height, cv2.CV_32F, 0, 1))


def _occlusion(material: Material) -> Field:
    """Light lost in hollows: how far a point lies below its surroundings."""
    depth = blur(material.height, 5 * material.unit) - material.height
    return field(1 - np.clip(depth * np.float32(0.07), -0.05, 0.6))


def _mirror(material: Material, camera: Camera, nx: Field, ny: Field) -> Field:
    """Reflection of the key light (near, so it moves over the image) and, for metal, of bands round it."""
    height, width = material.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] - np.float32(camera.highlight[0])
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - np.float32(camera.highlight[1])
    off_x, off_y = nx + np.float32(0.22) * x, ny + np.float32(0.22) * y
    strength = np.float32(min(1.0, 0.18 / material.roughness))  # a wide lobe is a dim one
    lobe = strength * np.exp((off_x * off_x + off_y * off_y) * np.float32(-0.5 / material.roughness**2))
    if material.metal == 0:
        return field(lobe)
    frequency, direction, phase = camera.environment
    along = off_x * np.float32(np.cos(direction)) + off_y * np.float32(np.sin(direction))
    bands = np.cos(along * np.float32(frequency) + np.float32(phase))
    return field(np.float32(0.6) * lobe + np.float32(0.5) + np.float32(0.38) * bands)


def _shadow(material: Material, camera: Camera) -> Field:
    """1 in the light, 0 in the cast shadow: march from each point towards the key light."""
    height, width = material.shape
    light_x, light_y, light_z = camera.light
    across = float(np.hypot(light_x, light_y))
    rise = max(light_z / across, 0.7)
    blocked = np.full(material.shape, -10, np.float32)
    for step in (1.0, 2.2, 3.8, 6.0, 9.0, 13.0):
        dx, dy = (step * material.unit * v / across for v in (light_x, light_y))
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        there = cv2.warpAffine(material.height, shift, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        blocked = np.maximum(blocked, field(there) - np.float32(step * rise))
    shadow = smoothstep(0.2, 2.2, field(blocked - material.height))
    return field(1 - np.float32(0.8) * blur(shadow, 1.2 * material.unit))


def gain(light: Field, camera: Camera) -> float:
    """Exposure for a scene: half way to the target (dark products stay darker), sparing the highlights.

    Args:
        light: (H, W, 3) as of `illuminate`.
        camera: With its target.
    """
    thumbnail = light[::4, ::4]
    wanted = np.sqrt(camera.target / max(float(thumbnail.mean()), 1e-3))
    spared = 0.75 / max(float(np.quantile(thumbnail, 0.96)), 1e-3)
    return float(camera.exposure * min(wanted, spared))


def expose(light: Field, camera: Camera, exposure: float) -> Field:
    """What the lens throws on the sensor, without noise: linear (H, W, 3), highlights rolled off below 1.

    Args:
        light: (H, W, 3) as of `illuminate`.
        camera: With its blur.
        exposure: As of `gain`.
    """
    height, width = light.shape[:2]
    unit = pixels_per_unit((height, width))
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    field_of_light = 1 + x * np.float32(camera.falloff[0]) + y * np.float32(camera.falloff[1])
    field_of_light *= 1 - np.float32(camera.vignette / 2) * (x * x + y * y)
    image = blur(light, camera.blur * unit) * stack([field_of_light * (t * np.float32(exposure)) for t in camera.tint])
    over = np.maximum(image - np.float32(0.6), 0)
    return field(image - over * over / (over + np.float32(0.4)))


def sense(image: Field, camera: Camera, rng: Generator) -> NDArray[np.uint8]:
    """Add sensor noise, apply the tone curve, sharpen, compress.

    Args:
        image: Linear, (H, W, 3), as of `expose`.
        camera: With its noise and quality.
        rng: Draws the noise.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shape: Shape = (image.shape[0], image.shape[1])
    noise = rng.standard_normal((*shape, 3), dtype=np.float32)
    if camera.noise_size >= 0.3:
        noise = blur(noise, camera.noise_size) * np.float32(1 + camera.noise_size)
    image = np.maximum(image, 0)
    noisy = image + noise * np.sqrt(camera.read_noise**2 + camera.shot_noise**2 * image)
    shown = np.sqrt(np.maximum(noisy, 0)) * np.float32(255)
    if camera.sharpen > 0:
        shown = shown + np.float32(camera.sharpen) * (shown - blur(field(shown), 1.0))
    quantised = np.clip(shown + np.float32(0.5), 0, 255).astype(np.uint8)
    return _compress(quantised, camera.jpeg_quality)


def _compress(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    if quality == 0:
        return image
    _, code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])
