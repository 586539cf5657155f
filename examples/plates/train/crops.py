"""Samples for the straightener and the reader: a plate in a loose box, its text and its corners."""

import camera
import cv2
import numpy as np
import plate
from glyphs import ALPHABET
from PIL import Image

# What the straightener takes, and how far above and below a box it looks (in heights of the box).
CROP_WIDTH, CROP_HEIGHT, MARGIN = 128, 48, 0.2
# Columns that the reader answers for.
COLUMNS = 47
BLANK = len(ALPHABET)


def quad(rng, width):
    """Corners (clockwise from the top left) of a plate about `width` pixels wide, around 0."""
    height = width * plate.HEIGHT / plate.WIDTH * np.exp(rng.normal(0.05, 0.12))
    if rng.random() < 0.15:
        height *= rng.uniform(1.1, 1.6)
    corners = np.float32([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * [width, height]
    near = rng.normal(0, 0.05)
    corners[:, 1] *= 1 + near * np.sign(corners[:, 0])
    angle = np.radians(rng.normal(0, 5) if rng.random() < 0.75 else rng.uniform(-22, 22))
    shear = rng.normal(0, 0.12)
    corners[:, 0] += shear * corners[:, 1]
    turn = np.float32([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (corners @ turn.T).astype(np.float32) + rng.normal(0, 0.008 * width, (4, 2)).astype(
        np.float32
    )


def paste(picture, art, corners):
    """Warps `art` onto the four corners."""
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, None)
    high = np.ceil(corners.max(axis=0)).astype(int) + 2
    place = picture[low[1] : high[1], low[0] : high[0]]
    if not place.size:
        return
    corners = (corners - low).astype(np.float32)
    height, width = art.shape[:2]
    source = np.float32([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
    fit = cv2.getPerspectiveTransform(source, corners - 0.5)
    size = (place.shape[1], place.shape[0])
    warped = cv2.warpPerspective(
        art, fit, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    mask = np.zeros(place.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
    place += (warped - place) * (mask[..., None].astype(np.float32) / 255)


def frame(picture, corners, rng):
    """The plastic frame around a plate, often with a dealer's name below it."""
    centre = corners.mean(axis=0)
    grow = 1 + rng.uniform(0.015, 0.05)
    outer = (corners - centre) * [grow, 1 + (grow - 1) * rng.uniform(2.5, 6)] + centre
    if rng.random() < 0.5:
        outer[2:] += (corners[2:] - corners[[1, 0]]) * rng.uniform(0.08, 0.25)
    dark = rng.uniform(5, 60) if rng.random() < 0.75 else rng.uniform(120, 240)
    cv2.fillConvexPoly(picture, np.round(outer * 16).astype(np.int32), (dark,) * 3, cv2.LINE_AA, 4)
    if rng.random() < 0.5:
        size = np.linalg.norm(corners[1] - corners[0])
        words = "".join(chr(c) for c in rng.integers(65, 91, rng.integers(5, 16)))
        low = (corners[3] * 2 + outer[3]) / 3 + (corners[2] - corners[3]) * rng.uniform(0.1, 0.4)
        bright = (255 - dark) * rng.uniform(0.5, 1)
        cv2.putText(
            picture,
            words,
            (int(low[0]), int(low[1] + size * 0.025)),
            1,
            size / 300,
            (bright,) * 3,
            1,
            cv2.LINE_AA,
        )


def body(rng, height, width):
    """A car's body around a plate: a colour, a gradient, some lines."""
    colour = np.float32(rng.uniform(10, 240) * (1 + rng.uniform(-0.3, 0.3, 3)))
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = colour
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    picture *= 1 + rng.uniform(-0.4, 0.4) * y
    for _ in range(rng.integers(0, 5)):
        a, b = rng.integers(0, height, 2)
        shade = rng.uniform(0, 255)
        cv2.line(
            picture,
            (0, int(a)),
            (width, int(b)),
            (shade,) * 3,
            int(rng.integers(1, 4 + height // 8)),
        )
    return picture


def shoot(picture, rng, width, scale):
    """What happens between a clean picture and the file: `width` is a plate's, in its pixels.

    With a `scale` other than 1 a program resizes the photo after the camera saved it.
    """
    camera.tone(picture, rng)
    picture = camera.blur(picture, rng, 0.35 + width / 110)
    picture = camera.finish(picture, rng, 1.0 + width / 240)
    if scale == 1:
        return picture
    size = [max(round(side / scale), 4) for side in picture.shape[1::-1]]
    picture = camera.resize(picture, rng, size)
    return camera.finish(picture, rng, 0.3) if rng.random() < 0.7 else picture


def loose(low, high, rng):
    """A detector's box around a plate, loose or tight; at times as wide as a fifth too much."""
    wide, tall = high - low
    if rng.random() < 0.2:
        sides = rng.uniform(-0.04, 0.2, 4) * [wide, tall, wide, tall]
    else:
        sides = rng.uniform([-0.1, -0.08, -0.1, -0.08], [0.36, 0.22, 0.36, 0.22]) * tall
    return low - sides[:2], high + sides[2:]


def sample(rng, fonts=None, unseen=False):
    """(crop uint8 [48,128,3], text, columns' classes [47], corners in the crop [-1..1] [4,2])."""
    width = np.exp(rng.uniform(np.log(34), np.log(250)))
    scale = np.exp(rng.uniform(np.log(0.55), np.log(2.2))) if rng.random() < 0.45 else 1
    width = np.clip(width * scale, 30, 300)
    art, text, spans = plate.draw(
        rng, min(max(width / plate.WIDTH * 1.3, 0.14), 0.6), fonts, unseen
    )
    camera.dirt(art, rng)
    if rng.random() < 0.25:
        camera.wear(art, rng)
    camera.light(art, rng)
    corners = quad(rng, width)
    low, high = loose(corners.min(axis=0), corners.max(axis=0), rng)
    # A plate at the border of its photo has no margin there.
    margin = MARGIN * (high[1] - low[1]) * (rng.random(2) > 0.12)
    low, high = np.floor([low[0], low[1] - margin[0]]), np.ceil([high[0], high[1] + margin[1]])
    size = (high - low).astype(int)
    corners = corners - low.astype(np.float32)
    picture = body(rng, size[1], size[0])
    if rng.random() < 0.6:
        frame(picture, corners, rng)
    paste(picture, thin(art, width), corners)
    picture = shoot(picture, rng, width, scale)
    crop = Image.fromarray(picture).resize((CROP_WIDTH, CROP_HEIGHT), Image.Resampling.BICUBIC)
    columns = np.full(COLUMNS, BLANK, np.int64)
    for char, (left, right) in zip(text, spans):
        # The middle of a character is its column, the rest is for blanks.
        middle, half = (left + right) / 2 * COLUMNS, (right - left) * COLUMNS * 0.3
        first = int(np.ceil(middle - half - 0.5))
        last = max(int(np.floor(middle + half - 0.5)), first)
        columns[first : last + 1] = ALPHABET.index(char)
    return np.array(crop), text, columns, (corners / size * 2 - 1).astype(np.float32)


def thin(art, width):
    """`art` made no larger than a plate of `width` needs, as a lens averages."""
    share = width / art.shape[1]
    if share > 1 / 1.5:
        return art
    return cv2.resize(art, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
