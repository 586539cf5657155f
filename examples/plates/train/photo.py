"""Renders the example's photo: a street with cars that nobody owns, all drawn here.

photo.py OUT.jpg
"""

import sys

import camera
import crops
import cv2
import numpy as np
import plate

WIDTH, HEIGHT = 1280, 720
HORIZON = 300


def shaded(picture, points, colour, slope=0.25):
    """A polygon, brighter towards its top."""
    points = np.int32(points)
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA)
    top, bottom = points[:, 1].min(), max(points[:, 1].max(), points[:, 1].min() + 1)
    rows = np.arange(picture.shape[0], dtype=np.float32)
    light = 1 + slope * (0.5 - np.clip((rows - top) / (bottom - top), 0, 1))
    paint = np.float32(colour) * light[:, None, None]
    picture += (paint - picture) * (mask[..., None].astype(np.float32) / 255)


def rectangle(picture, x, y, width, height, colour, slope=0.25):
    shaded(
        picture, [(x, y), (x + width, y), (x + width, y + height), (x, y + height)], colour, slope
    )


def street(rng):
    picture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    rows = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    picture[:] = np.float32([235, 205, 170]) * (1 - rows) + np.float32([225, 225, 225]) * rows
    x = -40
    while x < WIDTH:
        width, top = int(rng.integers(110, 230)), int(rng.integers(30, 170))
        house(picture, rng, x, top, width)
        x += width + int(rng.integers(0, 25))
    rectangle(picture, 0, HORIZON, WIDTH, 40, (120, 128, 132))
    shaded(
        picture,
        [(0, HORIZON + 30), (WIDTH, HORIZON + 30), (WIDTH, HEIGHT), (0, HEIGHT)],
        (92, 90, 88),
        -0.35,
    )
    for lane in (0.22, 0.68):
        for at in np.linspace(0, 1, 7)[:-1]:
            y = HORIZON + 40 + (HEIGHT - HORIZON - 40) * at**1.5
            size = 6 + 26 * at
            rectangle(
                picture,
                WIDTH * lane + (lane - 0.5) * 900 * at - size,
                y,
                size * 2,
                size * 0.6,
                (200, 205, 205),
            )
    return picture


def house(picture, rng, x, top, width):
    colour = rng.uniform(90, 200) * (1 + rng.uniform(-0.15, 0.15, 3))
    rectangle(picture, x, top, width, HORIZON - top + 10, colour)
    step = int(rng.integers(26, 38))
    for row in range(top + 14, HORIZON - 40, step):
        for column in range(x + 10, x + width - 20, step):
            glass = rng.uniform(50, 120) * np.float32([1.1, 1.0, 0.9])
            rectangle(picture, column, row, step * 0.5, step * 0.62, glass, 0.8)
    if rng.random() < 0.6:
        words = ["BAKERY", "BOOKS", "CAFE 24", "FLOWERS", "TEL 55-01"][rng.integers(5)]
        rectangle(picture, x + 12, HORIZON - 36, width - 24, 22, rng.uniform(30, 220, 3))
        cv2.putText(
            picture,
            words,
            (x + 20, HORIZON - 19),
            cv2.FONT_HERSHEY_DUPLEX,
            0.6,
            (245, 245, 245),
            1,
            cv2.LINE_AA,
        )


def car(picture, rng, x, y, width, colour):
    """The front of a car that stands at y; draws its plate and returns the plate's text."""
    high = width * 0.78

    def at(u, v):
        return (x + u * width / 2, y - v * high)

    cv2.ellipse(
        picture,
        (int(x), int(y)),
        (int(width * 0.56), int(width * 0.06)),
        0,
        0,
        360,
        (40, 40, 40),
        -1,
        cv2.LINE_AA,
    )
    for side in (-1, 1):
        rectangle(
            picture,
            x + side * width * 0.4 - width * 0.08,
            y - high * 0.25,
            width * 0.16,
            high * 0.26,
            (28, 28, 28),
        )
    shaded(
        picture,
        [at(-0.68, 0.55), at(-0.52, 0.97), at(-0.4, 1), at(0.4, 1), at(0.52, 0.97), at(0.68, 0.55)],
        colour,
        0.5,
    )
    shaded(
        picture, [at(-0.6, 0.57), at(-0.46, 0.92), at(0.46, 0.92), at(0.6, 0.57)], (95, 85, 75), 1.2
    )
    shaded(
        picture,
        [
            at(-0.98, 0.3),
            at(-0.86, 0.52),
            at(-0.6, 0.6),
            at(0.6, 0.6),
            at(0.86, 0.52),
            at(0.98, 0.3),
            at(0.95, 0.1),
            at(-0.95, 0.1),
        ],
        colour,
        0.6,
    )
    shaded(picture, [at(-0.5, 0.43), at(0.5, 0.43), at(0.42, 0.31), at(-0.42, 0.31)], (38, 38, 38))
    for line in np.linspace(0.33, 0.41, 4):
        cv2.line(
            picture,
            tuple(map(int, at(-0.45, line))),
            tuple(map(int, at(0.45, line))),
            (120,) * 3,
            max(int(width / 150), 1),
            cv2.LINE_AA,
        )
    for side in (-1, 1):
        lamp = [
            at(side * 0.92, 0.36),
            at(side * 0.84, 0.47),
            at(side * 0.56, 0.45),
            at(side * 0.58, 0.35),
        ]
        shaded(picture, lamp, (235, 235, 225), 0.5)
    shaded(picture, [at(-0.95, 0.12), at(0.95, 0.12), at(0.9, 0.04), at(-0.9, 0.04)], (45, 45, 45))

    size = width * 0.29
    art, text, _ = plate.draw(rng, max(size / plate.WIDTH * 1.3, 0.2))
    camera.dirt(art, rng)
    art *= np.float32(0.9)
    middle = np.float32(at(0, 0.2))
    tall = size * plate.HEIGHT / plate.WIDTH
    tilt = rng.uniform(-0.03, 0.03) * size
    corners = (
        np.float32(
            [[-size, -tall - tilt], [size, -tall + tilt], [size, tall + tilt], [-size, tall - tilt]]
        )
        / 2
        + middle
    )
    cv2.fillConvexPoly(
        picture, np.int32((corners - middle) * [1.04, 1.2] + middle), (25, 25, 25), cv2.LINE_AA
    )
    crops.paste(picture, art, corners)
    return text


def render(seed=10):
    """(photo, texts of its plates from left to right)."""
    rng = np.random.default_rng(seed)
    picture = street(rng)
    texts = [
        car(picture, rng, 1105, 470, 190, (60, 60, 165)),
        car(picture, rng, 720, 540, 300, (175, 150, 130)),
        car(picture, rng, 270, 640, 440, (205, 205, 208)),
    ][::-1]
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7)
    grain = np.empty(picture.shape, np.float32)
    cv2.setRNGSeed(seed)
    cv2.randn(grain, 0, 3)
    return np.clip(picture + grain, 0, 255).astype(np.uint8), texts


def main(path):
    photo, texts = render()
    cv2.imwrite(path, photo, [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(path, *texts)


if __name__ == "__main__":
    main(*sys.argv[1:])
