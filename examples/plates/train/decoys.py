"""Things that the detector must not take for number plates."""

from functools import lru_cache
from pathlib import Path

import camera
import crops
import cv2
import numpy as np
import plate
from backdrops import background


@lru_cache(maxsize=None)
def words(assets):
    """Strips of text in many fonts: masks for signs."""
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(7)
    paths = [p for p in sorted(Path(assets).rglob("*.[ot]tf"))] if assets else []
    letters = list(
        "ABCDEFGHIKLMNOPRSTUVXYZabdeghiklnoprstu0123456789-.АБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЫЭЮЯ"
    )
    strips = []
    for number in range(300 if paths else 0):
        text = "".join(rng.choice(letters, rng.integers(2, 13)))
        if number % 3 == 0:
            text = "".join(rng.choice(list("0123456789- "), rng.integers(5, 11)))
        font = ImageFont.truetype(str(paths[rng.integers(len(paths))]), 48)
        left, top, right, bottom = font.getbbox(text)
        if right - left < 8 or bottom - top < 8:
            continue
        strip = Image.new("L", (right - left + 4, bottom - top + 4))
        ImageDraw.Draw(strip).text((2 - left, 2 - top), text, fill=255, font=font)
        strips.append(np.array(strip))
    return strips


def sign(rng, assets, width):
    """A board with words on it: the detector must not take it for a plate."""
    height = int(width * rng.uniform(0.15, 0.9))
    art = np.empty((max(height, 6), max(int(width), 12), 3), np.float32)
    paper = (
        rng.uniform(0, 255, 3)
        if rng.random() < 0.55
        else np.float32(rng.uniform(190, 255)) * np.ones(3)
    )
    art[:] = paper
    strips = words(assets)
    inked = (255 - paper) * rng.uniform(0.5, 1) if rng.random() < 0.7 else rng.uniform(0, 255, 3)
    lines = int(rng.integers(1, 4)) if height > width * 0.3 else 1
    pitch = art.shape[0] / lines
    for line in range(lines if strips else 0):
        mask = strips[rng.integers(len(strips))]
        wide, high = art.shape[1] * rng.uniform(0.4, 0.95), pitch * rng.uniform(0.4, 0.85)
        wide = min(wide, high * mask.shape[1] / mask.shape[0])
        x = (art.shape[1] - wide) * rng.uniform(0.1, 0.9)
        plate.ink(art, mask, x, line * pitch + (pitch - high) / 2, wide, high, inked)
    if rng.random() < 0.5:
        cv2.rectangle(
            art,
            (0, 0),
            (art.shape[1] - 1, art.shape[0] - 1),
            inked.tolist(),
            int(rng.integers(1, 3)),
        )
    return art


def lattice(rng, width):
    """A window, a radiator, a fence, a row of keys: bars across a board."""
    height = max(int(width * rng.uniform(0.15, 1.2)), 6)
    art = np.empty((height, max(int(width), 10), 3), np.float32)
    art[:] = rng.uniform(0, 255) * (1 + rng.uniform(-0.15, 0.15, 3))
    shade = (float(rng.uniform(0, 255)),) * 3
    thick = int(rng.integers(1, 4))
    if rng.random() < 0.7:
        for x in np.arange(0, art.shape[1], rng.uniform(3, 14) + thick):
            cv2.line(art, (int(x), 0), (int(x), height), shade, thick)
    if rng.random() < 0.6:
        for y in np.arange(0, height, rng.uniform(3, 14) + thick):
            cv2.line(art, (0, int(y)), (art.shape[1], int(y)), shade, thick)
    return art


def blank(rng, width):
    """A light board with nothing on it, a lamp, a sticker."""
    art = np.empty(
        (max(int(width * rng.uniform(0.15, 0.5)), 5), max(int(width), 10), 3), np.float32
    )
    art[:] = rng.uniform(120, 255)
    camera.light(art, rng)
    if rng.random() < 0.5:
        camera.dirt(art, rng)
    return art


def panel(rng, assets, width, unseen):
    """A piece of some other picture: a poster, a door, what a window shows."""
    height = max(int(width * rng.uniform(0.2, 1.2)), 8)
    return np.ascontiguousarray(background(rng, assets, height, max(int(width), 12), unseen))


def decoy(picture, rng, assets, unseen=False):
    height, wide = picture.shape[:2]
    width = np.exp(rng.uniform(np.log(14), np.log(200)))
    dice = rng.random()
    if dice < 0.5:
        art = sign(rng, assets, width)
    elif dice < 0.75:
        art = lattice(rng, width)
    elif dice < 0.87:
        art = blank(rng, width)
    else:
        art = panel(rng, assets, width * 1.5, unseen)
    corners = crops.quad(rng, width)
    corners[:, 1] *= art.shape[0] / art.shape[1] * 4.5
    corners += rng.uniform(0, [wide, height]).astype(np.float32)
    crops.paste(picture, art, corners)
    return corners
