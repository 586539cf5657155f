"""Draws number plates of GOST R 50577: type 1, and some of type 1B (yellow, public transport)."""

import cv2
import numpy as np
from glyphs import alphabets

LETTERS = "ABEKMHOPCTYX"
# Millimetres.
WIDTH, HEIGHT = 520, 112

REGIONS = (
    [f"{n:02d}" for n in range(1, 100)]
    + """
    102 113 116 121 122 123 124 125 126 130 134 136 138 142 147 150 152 154 155 156 158 159 161 163
    164 173 174 177 178 180 181 182 184 185 186 188 190 192 193 196 197 198 199 250 252 277 299 323
    550 702 716 725 750 754 761 763 774 777 790 797 799 977""".split()
)
CAPITALS = [
    "77",
    "78",
    "50",
    "97",
    "99",
    "177",
    "199",
    "197",
    "777",
    "190",
    "750",
    "150",
    "178",
    "98",
]


def region(rng):
    """Mostly real codes, sometimes any digits, so that the reader trusts its eyes."""
    dice = rng.random()
    if dice < 0.2:
        return CAPITALS[rng.integers(len(CAPITALS))]
    if dice < 0.75:
        return REGIONS[rng.integers(len(REGIONS))]
    if dice < 0.9:
        return f"{rng.integers(1, 10)}{rng.integers(100):02d}"
    return f"{rng.integers(100):02d}"


def random_text(rng):
    """(text of the main field, region, whether type 1B)."""
    letters = "".join(LETTERS[i] for i in rng.integers(12, size=3))
    digits = f"{rng.integers(1000):03d}"
    if rng.random() < 0.04:
        return letters[:2] + digits, region(rng), True
    return letters[0] + digits + letters[1:], region(rng), False


def ink(canvas, mask, x, y, width, height, tone):
    """Puts one mask on the canvas; x, y, width and height in pixels."""
    x, y, width, height = (
        int(round(x)),
        int(round(y)),
        max(int(round(width)), 2),
        max(int(round(height)), 2),
    )
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    place = canvas[y : y + height, x : x + width]
    mask = mask[: place.shape[0], : place.shape[1], None].astype(np.float32) / 255
    place += (np.float32(tone) - place) * mask


def line_up(masks, heights, rng, room, gap):
    """Offsets and widths of characters that fill `room` at most: (starts, widths), from 0."""
    stretch = rng.uniform(0.9, 1.06)
    widths = [mask.shape[1] / mask.shape[0] * high * stretch for mask, high in zip(masks, heights)]
    gaps = [gap * rng.uniform(0.85, 1.15) for _ in masks[1:]]
    total = sum(widths) + sum(gaps)
    shrink = min(1.0, room / total)
    starts, at = [], 0.0
    for width, space in zip(widths, gaps + [0]):
        starts.append(at * shrink)
        at += width + space
    return starts, [w * shrink for w in widths], total * shrink


def cells(masks, heights, rng, room):
    """As line_up, but every character in the middle of a cell of the standard's width."""
    wide = [rng.uniform(52, 56) if high > 65 else rng.uniform(48, 53) for high in heights]
    stretch = rng.uniform(0.95, 1.05)
    shrink = min(1.0, room / sum(wide))
    widths = [
        min(mask.shape[1] / mask.shape[0] * high * stretch, cell - 3) * shrink
        for mask, high, cell in zip(masks, heights, wide)
    ]
    ends = np.cumsum([0.0, *wide]) * shrink
    starts = [(a + b - width) / 2 for a, b, width in zip(ends, ends[1:], widths)]
    return starts, widths, ends[-1]


def draw(rng, scale, fonts=None, unseen=False):
    """A clean plate at `scale` pixels per millimetre.

    Returns the picture (float32, BGR), its text, and for each character its span of the plate's
    width (0..1).
    """
    main, code, yellow = random_text(rng)
    styles, own = alphabets(fonts, unseen)
    pick = (
        rng.integers(own)
        if rng.random() < (0.2 if unseen else 0.7) or own == len(styles)
        else rng.integers(own, len(styles))
    )
    style = styles[pick]
    paper = rng.uniform(205, 255) * np.array([rng.uniform(0.93, 1.0), rng.uniform(0.97, 1.0), 1.0])
    if yellow:
        paper = np.array([rng.uniform(0, 90), rng.uniform(165, 215), rng.uniform(215, 255)])
    tone = rng.uniform(5, 70) * np.ones(3)
    canvas = np.empty((round(HEIGHT * scale), round(WIDTH * scale), 3), np.float32)
    canvas[:] = paper

    divider = (rng.uniform(388, 402) if len(code) == 2 else rng.uniform(372, 388)) + rng.uniform(
        -4, 4
    )
    line = max(1, round(rng.uniform(2, 5) * scale))
    edge = round(rng.uniform(1, 4) * scale)
    cv2.rectangle(
        canvas,
        (edge, edge),
        (canvas.shape[1] - 1 - edge, canvas.shape[0] - 1 - edge),
        tone.tolist(),
        line,
    )
    cv2.line(
        canvas,
        (int(divider * scale), edge),
        (int(divider * scale), canvas.shape[0] - edge),
        tone.tolist(),
        line,
    )

    spans = []
    digit, letter = rng.uniform(72, 80), rng.uniform(55, 63)
    base = rng.uniform(90, 97)
    heights = [digit if c.isdigit() else letter for c in main]
    masks = [style[c] for c in main]
    if rng.random() < 0.6:
        starts, widths, total = cells(masks, heights, rng, divider - 20)
    else:
        starts, widths, total = line_up(masks, heights, rng, divider - 34, rng.uniform(7, 14))
    left = (divider - total) / 2 + rng.uniform(-8, 8)
    for mask, high, start, width in zip(masks, heights, starts, widths):
        ink(
            canvas,
            mask,
            (left + start) * scale,
            (base - high) * scale,
            width * scale,
            high * scale,
            tone,
        )
        spans.append(((left + start) / WIDTH, (left + start + width) / WIDTH))

    masks, high = [style[c] for c in code], rng.uniform(52, 62)
    room = WIDTH - divider - 16
    starts, widths, total = line_up(masks, [high] * len(code), rng, room, rng.uniform(5, 10))
    left = divider + (WIDTH - divider - total) / 2 + rng.uniform(-3, 3)
    top = rng.uniform(9, 17)
    for mask, start, width in zip(masks, starts, widths):
        ink(canvas, mask, (left + start) * scale, top * scale, width * scale, high * scale, tone)
        spans.append(((left + start) / WIDTH, (left + start + width) / WIDTH))
    country(canvas, rng, scale, divider, top + high, tone)
    bolts(canvas, rng, scale)
    return canvas, main + code, spans


def country(canvas, rng, scale, divider, top, tone):
    """RUS and the flag under the region."""
    y = int((top + rng.uniform(24, 28)) * scale)
    if rng.random() < 0.95:
        place = (int((divider + rng.uniform(10, 22)) * scale), y)
        cv2.putText(
            canvas,
            "RUS",
            place,
            cv2.FONT_HERSHEY_SIMPLEX,
            0.9 * scale,
            tone.tolist(),
            max(1, round(3.5 * scale)),
            cv2.LINE_AA,
        )
    if rng.random() < 0.75:
        x, wide, high = (
            int((divider + rng.uniform(78, 88)) * scale),
            int(32 * scale),
            max(int(6.5 * scale), 1),
        )
        top = y - 3 * high
        for row, colour in enumerate(((245, 245, 245), (170, 60, 30), (40, 30, 190))):
            cv2.rectangle(
                canvas, (x, top + row * high), (x + wide, top + (row + 1) * high), colour, -1
            )


def bolts(canvas, rng, scale):
    if rng.random() < 0.6:
        shade = rng.uniform(20, 200)
        y, radius = int(rng.uniform(45, 62) * scale), max(int(rng.uniform(3, 7) * scale), 1)
        for x in (rng.uniform(12, 24), WIDTH - rng.uniform(8, 16)):
            cv2.circle(canvas, (int(x * scale), y), radius, (shade,) * 3, -1, cv2.LINE_AA)
