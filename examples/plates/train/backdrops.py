"""What stands behind number plates: parts of free pictures."""

import zlib
from functools import lru_cache
from pathlib import Path

import crops
import cv2
import numpy as np

LARGEST = 1400  # pixels of a background's longer side
# Photographs that show real plates, or nothing but drawings.
UNFIT = (
    "license", "plate", "html/search", "icon", "logo", "calib", "chess", "aruco", "splash",
    "_nm.", "_gm.", "_sm.",
)  # fmt: skip
# Every so many pictures are kept back from training, to measure with.
KEPT_BACK = 6


@lru_cache(maxsize=None)
def backgrounds(assets, unseen=False):
    """Every picture of the folder that can serve, as uint8 BGR; `unseen`: those kept back."""
    found, known = [], set()
    for path in sorted(Path(assets).rglob("*")) if assets else []:
        name = str(path.relative_to(assets)).lower()
        small = path.suffix.lower() == ".png" and "/html/" in name
        if (
            path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp")
            or small
            or any(u in name for u in UNFIT)
            or kept_back(path) != unseen
        ):
            continue
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None or min(picture.shape[:2]) < 200 or drawing(picture):
            continue
        # Wallpapers come in many sizes.
        look = (cv2.resize(picture, (6, 6), interpolation=cv2.INTER_AREA) // 24).tobytes()
        if look in known:
            continue
        known.add(look)
        scale = min(1, LARGEST / max(picture.shape[:2]))
        found.append(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return found


def kept_back(path):
    # A wallpaper's sizes are files of their own, named after the size: all of them are trained with.
    sized = path.stem.replace("x", "").isdigit()
    return not sized and zlib.crc32(path.stem.encode()) % KEPT_BACK == 0


def drawing(picture):
    """Whether most pixels are just like their neighbours, as in diagrams and logos."""
    small = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_NEAREST)
    return (small[:, 1:] == small[:, :-1]).all(axis=2).mean() > 0.5


def background(rng, assets, height, width, unseen=False):
    """A random part of a random picture, at a random scale, in the picture's proportions."""
    pool = backgrounds(assets, unseen)
    if not pool or rng.random() < 0.05:
        return crops.body(rng, height, width)
    picture = pool[rng.integers(len(pool))]
    zoom = np.exp(rng.uniform(-0.7, 1.5))
    zoom = min(zoom, picture.shape[0] / height, picture.shape[1] / width)
    high, wide = max(int(height * zoom), 2), max(int(width * zoom), 2)
    y = rng.integers(picture.shape[0] - high + 1)
    x = rng.integers(picture.shape[1] - wide + 1)
    method = cv2.INTER_AREA if zoom > 1 else cv2.INTER_CUBIC
    picture = cv2.resize(picture[y : y + high, x : x + wide], (width, height), interpolation=method)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.05:
        picture = picture[::-1]
    return picture.astype(np.float32)
