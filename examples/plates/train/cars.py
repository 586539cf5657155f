"""Cars, and what else may surround a plate, from plain shapes."""

import cv2
import numpy as np


class Car:
    """The front or the rear of a car around the place of its plate, which is `width` wide.

    Across it counts in halves of the car from the plate's middle, down it in pixels from there.
    """

    def __init__(self, picture, rng, centre, width):
        self.art, self.rng, self.centre, self.width = picture.copy(), rng, centre, width
        tint = rng.uniform(-0.3, 0.3, 3) * rng.integers(0, 2)
        self.paint = np.float32(rng.uniform(8, 245) * (1 + tint))
        self.dark = np.full(3, rng.uniform(5, 60))
        self.half = width * rng.uniform(1.55, 2.3)
        self.roof, self.floor = width * rng.uniform(1.3, 3.0), width * rng.uniform(0.25, 0.75)
        self.waist = -self.roof * rng.uniform(0.3, 0.55)

    def shape(self, points, colour):
        places = [(self.centre[0] + x * self.half, self.centre[1] + y) for x, y in points]
        colour = np.float64(colour).tolist()
        cv2.fillPoly(self.art, [np.int32(np.round(places))], colour, cv2.LINE_AA)

    def box(self, left, top, right, bottom, colour):
        self.shape([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def body(self):
        floor, waist, roof, width = self.floor, self.waist, self.roof, self.width
        self.box(-1.05, floor - 0.1 * width, 1.05, floor + 0.2 * width, self.dark * 0.5)
        for side in (-0.82, 0.82):
            self.box(side - 0.13, floor - 0.5 * width, side + 0.13, floor + 0.22 * width, [25] * 3)
        self.shape([(-0.95, waist), (-0.7, -roof), (0.7, -roof), (0.95, waist)], self.paint)
        edge, top = waist - (roof + waist) * 0.08, -roof * 0.93
        glass = [self.rng.uniform(20, 170)] * 3
        self.shape([(-0.85, edge), (-0.64, top), (0.64, top), (0.85, edge)], glass)
        self.box(-1, waist, 1, floor, self.paint)

    def bumper(self):
        rng, width = self.rng, self.width
        if rng.random() < 0.7:
            painted = self.paint * rng.uniform(0.3, 1.1)
            colour = painted if rng.random() < 0.6 else self.dark
            self.box(-1, rng.uniform(-0.1, 0.3) * width, 1, self.floor, colour)
        if rng.random() < 0.6:
            # The recess that plates sit in.
            wide, deep = rng.uniform(0.28, 0.45), width * rng.uniform(0.13, 0.25)
            colour = self.dark if rng.random() < 0.5 else self.paint * rng.uniform(0.5, 0.9)
            self.box(-wide, -deep, wide, deep, colour)
        if rng.random() < 0.5:
            slot, high = rng.uniform(0.15, 0.3) * width, width * rng.uniform(0.03, 0.2)
            self.box(-rng.uniform(0.4, 0.9), slot, rng.uniform(0.4, 0.9), slot + high, self.dark)

    def lamps(self, middle):
        rng, width = self.rng, self.width
        for side in (-1, 1):
            red = [30, 25, rng.uniform(90, 220)]
            self.shape(
                [
                    (side * 0.98, middle - 0.15 * width),
                    (side * 0.6, middle - 0.08 * width),
                    (side * 0.62, middle + 0.12 * width),
                    (side * 0.98, middle + 0.15 * width),
                ],
                rng.uniform(150, 255, 3) if rng.random() < 0.6 else red,
            )

    def grille(self, middle):
        rng, width = self.rng, self.width
        top, bottom = middle - 0.14 * width, middle + rng.uniform(0.0, 0.2) * width
        reach, step = rng.uniform(0.3, 0.55), max(width * rng.uniform(0.04, 0.1), 2)
        self.box(-reach, top, reach, bottom, self.dark)
        for y in np.arange(top, bottom, step):
            bar = [rng.uniform(40, 220)] * 3
            self.box(-reach, y, reach, y + step * rng.uniform(0.2, 0.5), bar)

    def name(self):
        """A maker's or a model's name in metal."""
        rng = self.rng
        words = "".join(chr(c) for c in rng.integers(65, 91, rng.integers(2, 9)))
        size = max(self.width / 250 * rng.uniform(0.5, 1.4), 0.2)
        place = self.centre + [rng.uniform(-0.7, 0.2) * self.half, self.waist * 0.4]
        place = tuple(place.astype(int).tolist())
        shade, face = (float(rng.uniform(0, 255)),) * 3, int(rng.integers(0, 5))
        cv2.putText(self.art, words, place, face, size, shade, 1 + int(size), cv2.LINE_AA)


def vehicle(picture, rng, centre, width):
    car = Car(picture, rng, centre, width)
    car.body()
    middle = car.waist * rng.uniform(0.3, 0.8)
    car.lamps(middle)
    if rng.random() < 0.6:
        car.grille(middle)
    if rng.random() < 0.4:
        car.name()
    car.bumper()
    slant = np.linspace(rng.uniform(0.9, 1.4), rng.uniform(0.5, 1.0), picture.shape[0])
    drawn = (car.art != picture).any(axis=2, keepdims=True)
    art = np.where(drawn, car.art * np.float32(slant)[:, None, None], car.art)
    picture[:] = cv2.GaussianBlur(art, (0, 0), rng.uniform(0.4, 1.4) + width / 300)


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
