"""What weather, light and a camera do to a clean picture. Pictures are float32, 0..255, BGR."""

import cv2
import numpy as np


def dirt(plate, rng):
    """Smooth stains, darker towards mud's colour."""
    height, width = plate.shape[:2]
    coarse = rng.random((rng.integers(2, 6), rng.integers(4, 14))).astype(np.float32)
    stains = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    strength = rng.uniform(0.0, 0.65) ** 1.3
    cover = np.clip((stains - rng.uniform(0.3, 0.7)) * 2.5, 0, 1)[..., None] * strength
    mud = np.float32([rng.uniform(40, 130), rng.uniform(50, 135), rng.uniform(60, 140)])
    plate += (mud - plate) * cover


def wear(plate, rng):
    """Paint that came off, drops of mud and snow that stayed on: small patches, pale or dark."""
    height, width = plate.shape[:2]
    for _ in range(rng.integers(1, 7)):
        size = rng.uniform(0.01, 0.12) * height + 0.5
        place = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = (max(int(size * rng.uniform(0.5, 4)), 1), max(int(size), 1))
        shade = rng.uniform(20, 250)
        colour = (shade, shade * rng.uniform(0.95, 1.05), shade * rng.uniform(0.9, 1.1))
        patch = np.zeros((height, width), np.uint8)
        cv2.ellipse(patch, place, axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
        cover = (patch.astype(np.float32) * np.float32(rng.uniform(0.2, 1) / 255))[..., None]
        plate += (np.float32(colour) - plate) * cover


def light(plate, rng):
    """A gradient of brightness, and at times the edge of a shadow or a glare."""
    height, width = plate.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    plate *= (1 + rng.uniform(-0.25, 0.25) * x + rng.uniform(-0.2, 0.2) * y)[..., None]
    if rng.random() < 0.3:
        slope, offset, soft = rng.uniform(-3, 3), rng.uniform(-0.8, 0.8), rng.uniform(2, 20)
        side = 1 / (1 + np.exp(-soft * (x + slope * y * 0.3 - offset)))
        plate *= (1 - rng.uniform(0.2, 0.65) * side)[..., None]
    if rng.random() < 0.2:
        # The shadow of what is above the plate.
        edge, soft = rng.uniform(-1, 0.6), rng.uniform(2, 30)
        above = 1 / (1 + np.exp(np.clip(soft * (y - edge - rng.uniform(-0.2, 0.2) * x), -30, 30)))
        plate *= (1 - rng.uniform(0.25, 0.75) * above)[..., None]
    if rng.random() < 0.08:
        spot = np.exp(
            -(((x - rng.uniform(-1, 1)) * 3) ** 2 + ((y - rng.uniform(-1, 1)) * 1.2) ** 2)
        )
        plate += (rng.uniform(60, 200) * spot)[..., None]


def tone(picture, rng, strong=1.0):
    """Exposure, contrast and white balance of the whole picture."""
    gain = np.exp(rng.normal(0, 0.22 * strong))
    balance = np.float32(np.exp(rng.normal(0, 0.06 * strong, 3)))
    picture *= gain * balance
    middle = 110
    picture[:] = (picture - middle) * np.float32(rng.uniform(1 - 0.45 * strong, 1.2)) + middle
    if rng.random() < 0.4:
        curve = np.float32(np.exp(rng.normal(0, 0.35 * strong)))
        picture[:] = 255 * (np.clip(picture, 0, 255) / 255) ** curve
    if rng.random() < 0.12:
        picture[:] = picture.mean(axis=2, keepdims=True)
    if rng.random() < 0.12:
        picture *= np.float32(rng.uniform(0.2, 0.6))


def blur(picture, rng, most):
    """Focus and motion, up to `most` pixels, and sharpening; returns a new picture.

    Light adds up before the camera's gamma: bright paper then eats into dark strokes.
    """
    if rng.random() < 0.5:
        gamma = np.float32(rng.uniform(1.6, 2.4))
        linear = (np.clip(picture, 0, 255) / 255) ** gamma
        picture = soften(linear, rng, most).clip(0, 1) ** (1 / gamma) * 255
    else:
        picture = soften(picture, rng, most)
    if rng.random() < 0.35:
        # The halo of a camera that sharpens.
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.7, 2.0))
        picture = picture + (picture - soft) * np.float32(rng.uniform(0.3, 1.8))
    return picture


def soften(picture, rng, most):
    if rng.random() < 0.6:
        sigma = rng.uniform(0.2, 1) ** 1.5 * most
        picture = cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.15))
    if rng.random() < 0.2:
        length = int(max(rng.uniform(0.6, 2.2) * most * 2, 2)) | 1
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        turn = cv2.getRotationMatrix2D((length // 2, length // 2), rng.uniform(-30, 30), 1)
        kernel = cv2.warpAffine(kernel, turn, (length, length))
        picture = cv2.filter2D(picture, -1, kernel / max(kernel.sum(), 1e-6))
    if rng.random() < 0.15:
        # Out of focus: a disc rather than a bell.
        radius = rng.uniform(0.6, 1.6) * most
        reach = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
        disc = np.clip(radius + 0.5 - np.hypot(*np.meshgrid(reach, reach)), 0, 1)
        picture = cv2.filter2D(picture, -1, np.float32(disc / max(disc.sum(), 1e-6)))
    return picture


FILTERS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def resize(picture, rng, size):
    """To (width, height), as some program or other would; at times sharpened afterwards."""
    method = FILTERS[rng.integers(len(FILTERS))] if rng.random() < 0.93 else cv2.INTER_NEAREST
    picture = cv2.resize(picture, size, interpolation=method)
    if rng.random() < 0.3:
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 1.4))
        picture = cv2.addWeighted(picture, 1.8, soft, -0.8, 0)
    return picture


def finish(picture, rng, noisy=1.0):
    """Sensor noise and JPEG; returns uint8."""
    if rng.random() < 0.7:
        height, width = picture.shape[:2]
        sigma = rng.uniform(0, 1) ** 2 * 14 * noisy
        grain = np.empty((height, width, 1 if rng.random() < 0.5 else 3), np.float32)
        cv2.randn(grain, 0, sigma)
        picture = picture + grain.reshape(height, width, -1)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.75:
        quality = int(rng.uniform(25, 95))
        _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        picture = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return picture
