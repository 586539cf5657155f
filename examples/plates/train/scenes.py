"""Pictures for the detector: number plates among things that look like them."""

from functools import lru_cache
from pathlib import Path

import camera
import crops
import cv2
import numpy as np
import plate

SIDE = 320
LARGEST = 1400  # pixels of a background's longer side
# Photographs that show real plates, or nothing but drawings.
UNFIT = ("license", "plate", "html/search", "icon", "logo", "calib", "chess", "aruco")


@lru_cache(maxsize=None)
def backgrounds(assets):
    """Every picture of the folder that can serve, as uint8 BGR."""
    found = []
    for path in sorted(Path(assets).rglob("*")) if assets else []:
        name = str(path.relative_to(assets)).lower()
        small = path.suffix.lower() == ".png" and "/html/" in name
        if (
            path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp")
            or small
            or any(u in name for u in UNFIT)
        ):
            continue
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None or min(picture.shape[:2]) < 200:
            continue
        scale = min(1, LARGEST / max(picture.shape[:2]))
        found.append(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return found


def background(rng, assets, side):
    """A random part of a random picture, at a random scale."""
    pool = backgrounds(assets)
    if not pool or rng.random() < 0.06:
        return crops.body(rng, side, side)
    picture = pool[rng.integers(len(pool))]
    height, width = picture.shape[:2]
    part = int(min(side * np.exp(rng.uniform(-0.7, 1.5)), height, width))
    y, x = rng.integers(height - part + 1), rng.integers(width - part + 1)
    picture = cv2.resize(
        picture[y : y + part, x : x + part], (side, side), interpolation=cv2.INTER_AREA
    )
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.08:
        picture = picture[::-1]
    return picture.astype(np.float32)


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


def decoy(picture, rng, assets):
    width = np.exp(rng.uniform(np.log(14), np.log(200)))
    dice = rng.random()
    art = (
        sign(rng, assets, width)
        if dice < 0.55
        else lattice(rng, width)
        if dice < 0.85
        else blank(rng, width)
    )
    corners = crops.quad(rng, width)
    corners[:, 1] *= art.shape[0] / art.shape[1] * 4.5
    corners += rng.uniform(0, SIDE, 2).astype(np.float32)
    crops.paste(picture, art, corners)
    return corners


def surroundings(picture, rng, centre, width):
    """Something like a bumper behind a plate: soft-edged, with slots, lamps and a shadow."""
    soft = picture.copy()
    wide, high = width * rng.uniform(0.7, 2.2), width * rng.uniform(0.2, 0.9)
    x, y = centre + [rng.normal(0, 0.2) * width, rng.normal(0, 0.12) * width]
    colour = (rng.uniform(8, 245) * (1 + rng.uniform(-0.35, 0.35, 3))).tolist()
    a, b = (int(x - wide), int(y - high)), (int(x + wide), int(y + high))
    if rng.random() < 0.5:
        cv2.rectangle(soft, a, b, colour, -1)
    else:
        cv2.ellipse(
            soft,
            (int(x), int(y)),
            (int(wide * 1.2), int(high * 1.2)),
            rng.uniform(-8, 8),
            0,
            360,
            colour,
            -1,
        )
    shade = rng.uniform(0, 120)
    for _ in range(rng.integers(0, 7)):
        at = int(y + rng.uniform(-1, 1) * high)
        cv2.line(
            soft,
            (int(x - wide * rng.uniform(0.3, 1)), at),
            (int(x + wide * rng.uniform(0.3, 1)), at),
            (shade,) * 3,
            int(rng.integers(1, 3 + width // 12)),
        )
    for side in (-1, 1):
        if rng.random() < 0.5:
            lamp = (int(x + side * wide * 0.85), int(y - high * rng.uniform(-0.2, 0.7)))
            size = (
                max(int(width * rng.uniform(0.08, 0.3)), 1),
                max(int(width * rng.uniform(0.05, 0.15)), 1),
            )
            cv2.ellipse(
                soft, lamp, size, rng.uniform(-20, 20), 0, 360, rng.uniform(60, 255, 3).tolist(), -1
            )
    if rng.random() < 0.6:
        # The recess that plates sit in.
        deep = [wide * rng.uniform(0.3, 0.7), width * rng.uniform(0.13, 0.25)]
        cv2.rectangle(
            soft,
            (int(x - deep[0]), int(y - deep[1])),
            (int(x + deep[0]), int(y + deep[1])),
            (rng.uniform(0, 90),) * 3,
            -1,
        )
    gradient = np.linspace(
        rng.uniform(0.7, 1.2), rng.uniform(0.5, 1.1), picture.shape[0], dtype=np.float32
    )
    soft *= gradient[:, None, None]
    picture[:] = cv2.GaussianBlur(soft, (0, 0), rng.uniform(0.4, 1.5))


def add_plate(picture, rng, assets, width, taken):
    """Draws one plate where none is yet; its box and its text, or None."""
    corners = crops.quad(rng, width)
    low, high = corners.min(axis=0), corners.max(axis=0)
    room = SIDE - (high - low)
    if (room <= 2).any():
        return None
    shift = rng.uniform(0, 1, 2) * room - low
    box = np.concatenate([low + shift, high + shift])
    if any(
        min(box[2], t[2]) > max(box[0], t[0]) - 4 and min(box[3], t[3]) > max(box[1], t[1]) - 4
        for t in taken
    ):
        return None
    corners = (corners + shift).astype(np.float32)
    if rng.random() < 0.75 and not taken:
        surroundings(picture, rng, corners.mean(axis=0), width)
    art, text, _ = plate.draw(rng, min(max(width / plate.WIDTH * 1.2, 0.12), 0.55), assets)
    camera.dirt(art, rng)
    camera.light(art, rng)
    if width < art.shape[1] / 1.5:
        art = cv2.resize(
            art,
            None,
            fx=width / art.shape[1],
            fy=width / art.shape[1],
            interpolation=cv2.INTER_AREA,
        )
    art *= np.float32(np.exp(rng.normal(-0.12, 0.18)))
    if rng.random() < 0.55:
        crops.frame(picture, corners, rng)
    crops.paste(picture, art, corners)
    return box, text


def scene(rng, assets=None):
    """(picture uint8 [320,320,3], boxes [N,4], texts)."""
    picture = np.ascontiguousarray(background(rng, assets, SIDE))
    for _ in range(rng.integers(0, 4)):
        decoy(picture, rng, assets)
    boxes, texts = [], []
    for _ in range(rng.choice([0, 1, 2, 3], p=[0.2, 0.5, 0.2, 0.1])):
        width = np.exp(rng.uniform(np.log(18), np.log(280 if not boxes else 90)))
        added = add_plate(picture, rng, assets, width, boxes)
        if added:
            boxes.append(added[0])
            texts.append(added[1])
    camera.tone(picture, rng, 0.8)
    picture = camera.blur(picture, rng, 1.1)
    picture = camera.finish(picture, rng, 0.8)
    return picture, np.float32(boxes).reshape(-1, 4), texts
