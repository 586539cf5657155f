"""Letters and digits of number plates as masks: our own strokes, or taken from free fonts."""

import random
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

ALPHABET = "0123456789ABEKMHOPCTYX"
CYRILLIC = dict(zip("ABEKMHOPCTYX", "АВЕКМНОРСТУХ"))

# Masks are this high; a plate scales them to what it needs.
HEIGHT = 96


def arc(cx, cy, rx, ry, start, end):
    """Points of an ellipse, angles in degrees, clockwise on the picture."""
    angles = np.radians(np.linspace(start, end, 25))
    return [(cx + rx * np.cos(a), cy + ry * np.sin(a)) for a in angles]


def strokes(char, flat_three, dip):
    """Centre lines of one character in a box 6 wide and 10 high, y down.

    `dip` is how deep the middle of an M reaches.
    """
    ring = arc(3, 3, 3, 3, 180, 360) + arc(3, 7, 3, 3, 0, 180) + [(0, 3)]
    six = [
        arc(3, 6.9, 3, 3.1, 0, 360),
        [(0, 6.9), (0.15, 5.6), (0.9, 4.1), (2.6, 1.9), (4.2, 0)],
    ]
    bowl = arc(3.4, 2.5, 2.5, 2.5, -90, 90)
    three = arc(3, 2.5, 2.6, 2.5, 200, 450) + arc(3, 7.3, 3, 2.7, -90, 160)
    if flat_three:
        three = [(0.3, 0), (5.6, 0), (2.7, 3.9)] + arc(2.9, 6.9, 3.1, 3.1, -80, 155)
    return {
        "0": [ring],
        "O": [ring],
        "1": [[(0.9, 2.8), (3.8, 0), (3.8, 10)]],
        "2": [arc(3, 2.9, 2.9, 2.9, 180, 395) + [(0, 10), (6, 10)]],
        "3": [three],
        "4": [[(3.6, 0), (0, 7.4), (6, 7.4)], [(4.5, 4.6), (4.5, 10)]],
        "5": [[(5.6, 0), (0.7, 0), (0.4, 4.6)] + arc(2.9, 6.8, 3.1, 3.2, -135, 150)],
        "6": six,
        "7": [[(0, 0), (6, 0), (2.2, 10)]],
        "8": [arc(3, 2.4, 2.6, 2.4, 0, 360), arc(3, 7.3, 3, 2.7, 0, 360)],
        "9": [[(6 - x, 10 - y) for x, y in line] for line in six],
        "A": [[(0, 10), (3, 0), (6, 10)], [(1, 6.8), (5, 6.8)]],
        "B": [
            [(0, 0)] + bowl + [(0, 5)],
            [(0, 0), (0, 10)] + arc(3.4, 7.5, 2.6, 2.5, 90, -90) + [(0, 5)],
        ],
        "C": [arc(3, 3, 3, 3, 345, 180) + arc(3, 7, 3, 3, 180, 15)],
        "E": [[(5.8, 0), (0, 0), (0, 10), (5.8, 10)], [(0, 4.9), (5, 4.9)]],
        "H": [[(0, 0), (0, 10)], [(6, 0), (6, 10)], [(0, 4.9), (6, 4.9)]],
        "K": [[(0, 0), (0, 10)], [(5.7, 0), (0, 6.2)], [(2.1, 4.1), (6, 10)]],
        "M": [[(0, 10), (0, 0), (3, dip), (6, 0), (6, 10)]],
        "P": [[(0, 10), (0, 0)] + bowl + [(0, 5)]],
        "T": [[(0, 0), (6, 0)], [(3, 0), (3, 10)]],
        "X": [[(0, 0), (6, 10)], [(6, 0), (0, 10)]],
        "Y": [[(0, 0), (3.1, 6)], [(6, 0), (2.4, 8.6), (1.6, 9.8), (0.3, 10)]],
    }[char]


def drawn(char, weight, aspect, flat_three=False, dip=6):
    """A mask of our own: `weight` is the stroke's share of the height, `aspect` width to height."""
    zoom = 4
    height, width = HEIGHT * zoom, int(HEIGHT * aspect * zoom)
    pen = int(height * weight)
    mask = np.zeros((height, width), np.uint8)
    inner = np.array([width - pen, height - pen]) / np.array([6.0, 10.0])
    for line in strokes(char, flat_three, dip):
        points = np.array(line) * inner + pen / 2
        cv2.polylines(mask, [np.round(points).astype(np.int32)], False, 255, pen, cv2.LINE_AA)
    return cv2.resize(mask, (width // zoom, HEIGHT), interpolation=cv2.INTER_AREA)


def printed(char, font):
    """A mask out of a font, cut to the ink. None where the font lacks the character."""
    absent = typeset("\ue123", font)
    for form in (CYRILLIC.get(char, char), char):
        ink = typeset(form, font)
        rows, columns = np.flatnonzero(ink.max(axis=1)), np.flatnonzero(ink.max(axis=0))
        if len(rows) > 40 and len(columns) > 15 and not np.array_equal(ink, absent):
            ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            width = max(int(ink.shape[1] * HEIGHT / ink.shape[0]), 12)
            return cv2.resize(ink, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    return None


def typeset(text, font):
    from PIL import Image, ImageDraw

    picture = Image.new("L", (400, 400))
    ImageDraw.Draw(picture).text((100, 60), text, fill=255, font=font)
    return np.array(picture)


def own_style(rng):
    """Near the standard: digits 76 mm high and 11 mm thick, letters as wide, 58 high, 9 thick."""
    thick, wide, dip = rng.uniform(0.8, 1.12), rng.uniform(0.9, 1.1), rng.uniform(5.2, 8.5)
    flat = rng.random() < 0.1
    style = {}
    for char in ALPHABET:
        weight, aspect = (0.145, 0.575) if char.isdigit() else (0.155, 0.74)
        aspect *= {"M": 1.1, "1": 0.72, "P": 0.95, "E": 0.95}.get(char, 1) * wide
        style[char] = drawn(char, weight * thick, aspect, flat, dip)
    return style


# Fonts near enough to the standard's letters; the rest of a folder serves for signs.
PLATE_FONTS = (
    "RG2014", "OSP-DIN", "osifont", "B612-", "B612Mono-Bold", "Play-", "RobotoCondensed-Bold",
    "Roboto-Medium", "Roboto-Bold", "DejaVuSansCondensed-Bold", "LiberationSansNarrow-Bold",
    "LiberationSans-Bold", "PTN57F", "PTN77F", "OpenSans-CondBold", "OpenSans-Semibold",
    "Cantarell-Bold",
)  # fmt: skip


# Never trained with: what is measured with these tells how far the reader gets with new letters.
KEPT_BACK = ("osifont", "Play-", "RobotoCondensed-Bold", "OpenSans-CondBold", "DejaVuSansCondensed")


@lru_cache(maxsize=None)
def alphabets(fonts, unseen=False):
    """Every style of plate lettering, a list of {character: mask}, and how many are ours (first).

    `unseen`: the styles kept back from training instead.
    """
    rng = random.Random(2 if unseen else 1)
    styles = [own_style(rng) for _ in range(8 if unseen else 36)]
    own = len(styles)
    for path in sorted(Path(fonts).rglob("*.[ot]tf")) if fonts else []:
        if "Italic" in path.name or "Oblique" in path.name:
            continue
        if path.name.startswith(KEPT_BACK) != unseen or not path.name.startswith(PLATE_FONTS):
            continue
        style = from_font(path)
        if style:
            styles.append(style)
    return styles, own


def from_font(path):
    from PIL import ImageFont

    font = ImageFont.truetype(str(path), 220)
    style = {char: printed(char, font) for char in ALPHABET}
    return style if all(mask is not None for mask in style.values()) else None
