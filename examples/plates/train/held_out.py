"""Renders a folder of labelled pictures that no training run has seen, for evaluate.py.

held_out.py FOLDER [--assets FOLDER] [--count N] [--transfer [--seed N]]

`--transfer` makes them unlike those of training: letters and backgrounds that were kept back, sizes
of real photos, and a camera with other lenses, other noise and other compression.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import scenes

# Training draws from [50577, n], its curves from [1, n].
SEED = 2
SIZES = ((480, 640), (439, 780), (768, 1024), (720, 1280), (1280, 960), (1080, 1920))
# Plates narrower than this cannot be read by anybody.
LEGIBLE = 60


def camera(picture, rng):
    """Nothing of camera.py: a box or median blur, grain that grows with light, WebP."""
    picture = picture * np.exp(rng.normal(0, 0.2)) + rng.normal(0, 12)
    if rng.random() < 0.25:
        picture = picture @ np.float32(np.eye(3) + rng.normal(0, 0.12, (3, 3)))
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    dice = rng.random()
    if dice < 0.3:
        picture = cv2.blur(picture, (int(rng.integers(1, 4)), int(rng.integers(1, 4))))
    elif dice < 0.4:
        picture = cv2.medianBlur(picture, 3)
    elif dice < 0.55:
        picture = cv2.bilateralFilter(picture, 5, 40, 2)
    photons = rng.uniform(0.3, 8)
    picture = rng.poisson(picture * photons) / photons if photons < 6 else picture
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.8:
        quality = [cv2.IMWRITE_WEBP_QUALITY, int(rng.uniform(20, 90))]
        picture = cv2.imdecode(cv2.imencode(".webp", picture, quality)[1], cv2.IMREAD_COLOR)
    return picture


def render(rng, assets, transfer):
    if not transfer:
        return scenes.scene(rng, assets)
    size = SIZES[rng.integers(len(SIZES))]
    return scenes.scene(rng, assets, size, least=25, unseen=True, shot=camera)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--assets")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--transfer", action="store_true")
    options = parser.parse_args()
    images = options.folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    with open(options.folder / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "x1", "y1", "x2", "y2", "text"])
        for number in range(options.count):
            rng = np.random.default_rng([options.seed, number])
            picture, boxes, texts = render(rng, options.assets, options.transfer)
            name = f"{number:04d}.png"
            cv2.imwrite(str(images / name), picture)
            for box, text in zip(boxes, texts):
                legible = text if box[2] - box[0] >= LEGIBLE else ""
                writer.writerow([name, *(f"{side:.1f}" for side in box), legible])


if __name__ == "__main__":
    main()
