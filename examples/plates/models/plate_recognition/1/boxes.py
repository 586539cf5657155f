"""From a picture to the detector's input, from its answer to boxes, from a box to a crop."""

import numpy as np
from PIL import Image

# The longer sides that the detector sees a picture at, at most: far plates need a large one, near
# ones a small one. Both sides are made multiples of STEP.
SIDES, STEP = (1280, 704), 32
CONFIDENCE = 0.55
OVERLAP = 0.3
# As many as the straightener and the reader take in one batch.
MOST = 32

# What the straightener takes, and how far above and below a box it looks (in heights of the box).
CROP_WIDTH, CROP_HEIGHT, MARGIN = 128, 48, 0.2

# The article's boxes refer to the picture resized to this width and height.
ARTICLE_SIZE = (1920, 1080)


def views(picture):
    """The detector's inputs [1,3,H,W] for a BGR picture, and the scale of each."""
    longest = max(picture.shape[:2])
    return [fit(picture, side / longest) for side in sorted({min(s, longest) for s in SIDES})]


def fit(picture, scale):
    height, width = picture.shape[:2]
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    fitted = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    padded = [-(-side // STEP) * STEP for side in size]
    square = np.full((padded[1], padded[0], 3), 114, np.uint8)
    square[: size[1], : size[0]] = fitted
    rgb = square[:, :, ::-1].transpose(2, 0, 1)
    return np.ascontiguousarray(rgb, np.float32)[None] / 255, scale


def keep_best(found, picture):
    """Corners [N,4] in pixels of the picture and confidences [N], best first, N at most MOST.

    `found` has the detector's boxes [A,5] (centre, size, confidence) of each view and its scale.
    """
    likely = [(boxes[boxes[:, 4] >= CONFIDENCE], scale) for boxes, scale in found]
    confidences = np.concatenate([boxes[:, 4] for boxes, _ in likely])
    corners = np.concatenate([corners_of(boxes) / scale for boxes, scale in likely])
    order = np.argsort(-confidences, kind="stable")
    height, width = picture.shape[:2]
    corners = np.clip(corners[order], 0, [width, height, width, height]).astype(np.float32)
    kept = []
    for index, box in enumerate(corners):
        if len(kept) == MOST:
            break
        if (box[2:] - box[:2] >= 1).all() and not any(
            overlap(box, corners[other]) > OVERLAP for other in kept
        ):
            kept.append(index)
    return corners[kept], confidences[order][kept]


def corners_of(boxes):
    half = boxes[:, 2:4] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def overlap(a, b):
    """Intersection over union."""
    common = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def crop(picture, box):
    """The straightener's input [3,48,128] for one box of a BGR picture."""
    xmin, ymin, xmax, ymax = (float(side) for side in box)
    margin = MARGIN * (ymax - ymin)
    height, width = picture.shape[:2]
    left, right = max(int(xmin), 0), min(int(np.ceil(xmax)), width)
    top, bottom = max(int(ymin - margin), 0), min(int(np.ceil(ymax + margin)), height)
    part = Image.fromarray(np.ascontiguousarray(picture[top:bottom, left:right]))
    part = part.resize((CROP_WIDTH, CROP_HEIGHT), Image.Resampling.BICUBIC)
    return (np.asarray(part, np.float32).transpose(2, 0, 1) - 127.5) * 0.0078125


def crops(picture, boxes):
    """Crops [N,3,48,128] of all boxes."""
    found = [crop(picture, box) for box in boxes]
    return np.array(found, np.float32).reshape(-1, 3, CROP_HEIGHT, CROP_WIDTH)


def article_coordinates(boxes, picture):
    """Boxes as the article gives them: on the picture resized to 1920x1080."""
    height, width = picture.shape[:2]
    across, down = ARTICLE_SIZE[0] / width, ARTICLE_SIZE[1] / height
    return (boxes * [across, down, across, down]).astype(np.float32)
