"""Trains the detector, with YOLOv5's way of giving boxes to anchors."""

import numpy as np
import scenes
import torch
from nets import ANCHORS, Detector
from torch.nn import functional as F
from training import Batches, Run, arguments, begun

BATCH = 16
# So many steps for a point of the curves and a checkpoint.
EVERY = 50
# A box belongs to an anchor when no side differs by more than this factor.
FIT = 3.0


def make(assets):
    def batch(rng):
        pictures, boxes, _ = zip(*(scenes.scene(rng, assets) for _ in range(BATCH)))
        return np.stack(pictures), list(boxes)

    return batch


def tensors(pictures):
    return torch.as_tensor(pictures).flip(3).permute(0, 3, 1, 2).float().contiguous() / 255


def assign(boxes, stride, anchors, rows, columns):
    """(sample, anchor, row, column) and the box (x, y, w, h) of every place that should answer."""
    places, targets = [], []
    for sample, found in enumerate(boxes):
        for xmin, ymin, xmax, ymax in found:
            x, y, w, h = (
                (xmin + xmax) / 2 / stride,
                (ymin + ymax) / 2 / stride,
                xmax - xmin,
                ymax - ymin,
            )
            for index, (wide, high) in enumerate(anchors):
                if max(w / wide, wide / w, h / high, high / h) > FIT:
                    continue
                near = [(0, 0), (-1 if x % 1 < 0.5 else 1, 0), (0, -1 if y % 1 < 0.5 else 1)]
                for dx, dy in near:
                    column, row = int(x) + dx, int(y) + dy
                    if 0 <= column < columns and 0 <= row < rows:
                        places.append((sample, index, row, column))
                        targets.append((x * stride, y * stride, w, h))
    return np.array(places, np.int64).reshape(-1, 4), torch.tensor(
        targets, dtype=torch.float32
    ).view(-1, 4)


def overlap(a, b):
    """Complete IoU less the term of the aspect ratio, and plain IoU, of boxes (x, y, w, h)."""
    a_low, a_high = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    b_low, b_high = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    common = (torch.min(a_high, b_high) - torch.max(a_low, b_low)).clamp(min=0).prod(1)
    iou = common / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - common + 1e-6)
    hull = torch.max(a_high, b_high) - torch.min(a_low, b_low)
    apart = (a[:, :2] - b[:, :2]).pow(2).sum(1) / (hull.pow(2).sum(1) + 1e-6)
    return iou - apart, iou


def losses(outputs, boxes):
    """(loss of the boxes, loss of the confidences)."""
    box_loss, object_loss, count = torch.zeros(()), torch.zeros(()), 0
    for y, (stride, anchors) in zip(outputs, ANCHORS.items()):
        goal = torch.zeros_like(y[:, :, 4])
        places, targets = assign(boxes, stride, anchors, *y.shape[3:])
        if len(places):
            n, a, row, column = torch.as_tensor(places).unbind(1)
            found = y[n, a, :, row, column].sigmoid()
            cell = torch.stack([column, row], dim=1)
            centre = (found[:, :2] * 2 - 0.5 + cell) * stride
            size = (found[:, 2:4] * 2).pow(2) * torch.tensor(anchors, dtype=y.dtype)[a]
            score, iou = overlap(torch.cat([centre, size], dim=1), targets)
            box_loss = box_loss + (1 - score).sum()
            goal[n, a, row, column] = (0.3 + 0.7 * iou.detach()).clamp(0, 1)
            count += len(places)
        object_loss = object_loss + F.binary_cross_entropy_with_logits(
            y[:, :, 4], goal, reduction="sum"
        )
    return box_loss / max(count, 1), object_loss / max(count, 16)


def keep_best(found, confidence, most=0.45):
    """Non-maximum suppression of boxes (x, y, w, h, confidence): corners and confidence."""
    found = found[found[:, 4] > confidence]
    found = found[np.argsort(-found[:, 4])]
    corners = np.concatenate(
        [found[:, :2] - found[:, 2:4] / 2, found[:, :2] + found[:, 2:4] / 2], axis=1
    )
    kept = []
    for index in range(len(found)):
        if all(iou(corners[index], corners[other]) < most for other in kept):
            kept.append(index)
    return np.concatenate([corners[kept], found[kept, 4:]], axis=1)


def iou(a, b):
    common = np.prod(np.clip(np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]), 0, None))
    return common / (np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2]) - common)


@torch.no_grad()
def evaluate(net, held_out, confidence=0.5):
    """(recall, false boxes a picture) at IoU 0.5."""
    hits = total = false = pictures = 0
    for batch, boxes in held_out:
        for found, truth in zip(net(tensors(batch)).numpy(), boxes):
            found = keep_best(found, confidence)
            matched = [any(iou(f, t) >= 0.5 for f in found) for t in truth]
            hits, total, pictures = hits + sum(matched), total + len(truth), pictures + 1
            false += sum(not any(iou(f, t) >= 0.5 for t in truth) for f in found)
    return hits / total, false / pictures


def main():
    options = arguments(minutes=60)
    net = Detector()
    if options.begin:
        begun(net, options.begin + "/yolo/1/detector.pt")
    run = Run("detector", net, options)
    held_out = [make(options.assets)(np.random.default_rng([1, i])) for i in range(8)]
    batches = Batches(make(options.assets), run.step).loader()
    sums = np.zeros(2)
    while not run.done():
        pictures, boxes = next(batches)
        box_loss, object_loss = losses(run.nets.raw(tensors(pictures)), boxes)
        run.learn(2 * box_loss + object_loss)
        sums += [box_loss.item(), object_loss.item()]
        if run.step % EVERY == 0:
            means, sums = sums / EVERY, np.zeros(2)
            recall, false = evaluate(run.averages.eval(), held_out)
            run.log(
                boxes=round(means[0], 4),
                objects=round(means[1], 4),
                recall=round(recall, 4),
                false=round(false, 4),
            )
            run.save()
    run.save()


if __name__ == "__main__":
    main()
