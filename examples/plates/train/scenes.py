"""Pictures for the detector: number plates among things that look like them."""

import camera
import crops
import numpy as np
import plate
from backdrops import background
from cars import surroundings, vehicle
from decoys import decoy

SIDE = 320


def add_plate(picture, rng, assets, width, taken, unseen=False):
    """Draws one plate where none is yet; its box and its text, or None."""
    corners = crops.quad(rng, width)
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.array(picture.shape[1::-1])
    # A few reach beyond the picture, by a quarter at most.
    beyond = (high - low) * 0.25 * (rng.random() < 0.06)
    room = size - (high - low) + 2 * beyond
    if (room <= 2).any():
        return None
    shift = rng.uniform(0, 1, 2) * room - beyond - low
    box = np.concatenate([low + shift, high + shift])
    if any(
        min(box[2], t[2]) > max(box[0], t[0]) - 4 and min(box[3], t[3]) > max(box[1], t[1]) - 4
        for t in taken
    ):
        return None
    corners = (corners + shift).astype(np.float32)
    if rng.random() < 0.8 and not taken:
        draw = vehicle if rng.random() < 0.5 else surroundings
        draw(picture, rng, corners.mean(axis=0), width)
    art, text, _ = plate.draw(
        rng, min(max(width / plate.WIDTH * 1.2, 0.12), 0.6), assets, unseen
    )
    camera.dirt(art, rng)
    if rng.random() < 0.2:
        camera.wear(art, rng)
    camera.light(art, rng)
    art = crops.thin(art, width)
    art *= np.float32(np.exp(rng.normal(-0.12, 0.22)))
    if rng.random() < 0.55:
        crops.frame(picture, corners, rng)
    crops.paste(picture, art, corners)
    return np.clip(box, 0, [*size, *size]), text


def shoot(picture, rng, blurred=1.1):
    """Camera and file; at times the file is an enlarged one."""
    camera.tone(picture, rng, 0.8)
    height, width = picture.shape[:2]
    if rng.random() < 0.25:
        share = rng.uniform(0.45, 0.95)
        small = (int(width * share), int(height * share))
        picture = camera.blur(camera.resize(picture, rng, small), rng, blurred * share)
        return camera.resize(camera.finish(picture, rng, 0.8), rng, (width, height))
    return camera.finish(camera.blur(picture, rng, blurred), rng, 0.8)


def scene(rng, assets=None, size=(SIDE, SIDE), least=14, unseen=False, shot=shoot):
    """(picture uint8 [H,W,3], boxes [N,4], texts), plates from `least` pixels wide on.

    `unseen`: with backgrounds and letters that no net was trained with; `shot` is the camera.
    """
    height, width = size
    picture = np.ascontiguousarray(background(rng, assets, height, width, unseen))
    for _ in range(rng.integers(0, 5)):
        decoy(picture, rng, assets, unseen)
    boxes, texts = [], []
    for _ in range(rng.choice([0, 1, 2, 3], p=[0.2, 0.5, 0.2, 0.1])):
        across = np.exp(rng.uniform(np.log(least), np.log(300 if not boxes else 90)))
        added = add_plate(picture, rng, assets, across, boxes, unseen)
        if added:
            boxes.append(added[0])
            texts.append(added[1])
    return shot(picture, rng), np.float32(boxes).reshape(-1, 4), texts
