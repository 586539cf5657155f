"""Renders a folder of labelled pictures that no training run has seen, for evaluate.py.

held_out.py FOLDER [--assets FOLDER] [--count N]
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import scenes

# Training draws from [50577, n], its curves from [1, n].
SEED = 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--assets")
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    images = options.folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    with open(options.folder / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "x1", "y1", "x2", "y2", "text"])
        for number in range(options.count):
            rng = np.random.default_rng([SEED, number])
            picture, boxes, texts = scenes.scene(rng, options.assets)
            name = f"{number:04d}.png"
            cv2.imwrite(str(images / name), picture)
            for box, text in zip(boxes, texts):
                # Plates narrower than this cannot be read by anybody.
                legible = text if box[2] - box[0] >= 60 else ""
                writer.writerow([name, *(f"{side:.1f}" for side in box), legible])


if __name__ == "__main__":
    main()
