"""Measures the nets of `models` on labelled photos, with ONNX Runtime and without a server.

    evaluate.py FOLDER

FOLDER holds `images/` and `labels.csv` with the columns file,x1,y1,x2,y2,text: one line for each
plate, in pixels; an empty text means that nobody could read it. Photos without a line have no
plates.
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime

from client import KINDS, load

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "models/plate_recognition/1"))

import boxes as finding  # noqa: E402
import texts as reading  # noqa: E402

SAME = 0.5  # Intersection over union from which on a box is the labelled one.


class Nets:
    def __init__(self, models):
        paths = {
            name: str(models / name / "1/model.onnx") for name in ("detector", "stn", "lprnet")
        }
        providers = ["CPUExecutionProvider"]
        self.sessions = {
            n: onnxruntime.InferenceSession(p, providers=providers) for n, p in paths.items()
        }

    def run(self, name, value):
        session = self.sessions[name]
        return session.run(None, {session.get_inputs()[0].name: value})[0]

    def find(self, picture):
        views = finding.views(picture)
        found = [(self.run("detector", pixels)[0], scale) for pixels, scale in views]
        return finding.keep_best(found, picture)[0]

    def read(self, picture, boxes):
        if not len(boxes):
            return []
        logits = self.run("lprnet", self.run("stn", finding.crops(picture, boxes)))
        return [reading.read(plate)[0] for plate in logits]


def labels(folder):
    """{file: [(box, text)]}."""
    found = defaultdict(list)
    with open(folder / "labels.csv", newline="") as file:
        for row in csv.DictReader(file):
            box = np.float32([row[side] for side in ("x1", "y1", "x2", "y2")])
            found[row["file"]].append((box, row["text"].strip()))
    return found


class Counts:
    def __init__(self):
        self.photos = self.plates = self.found = self.false = 0
        self.readable = self.read = self.whole = 0

    def add(self, nets, picture, truth):
        boxes = nets.find(picture)
        texts = nets.read(picture, boxes)
        self.photos += 1
        self.plates += len(truth)
        self.false += sum(not any(same(box, label) for label, _ in truth) for box in boxes)
        labelled = nets.read(picture, [label for label, _ in truth])
        for (label, text), read in zip(truth, labelled):
            matches = [t for box, t in zip(boxes, texts) if same(box, label)]
            self.found += bool(matches)
            if text:
                self.readable += 1
                self.read += read == text
                self.whole += text in matches

    def show(self):
        print(
            "photos %d, plates %d, of them readable %d" % (self.photos, self.plates, self.readable)
        )
        print(
            "detector: recall %s, false boxes a photo %.3f"
            % (share(self.found, self.plates), self.false / max(self.photos, 1))
        )
        print("reader on labelled boxes: %s exact" % share(self.read, self.readable))
        print("end to end: %s exact" % share(self.whole, self.readable))


def same(box, label):
    return finding.overlap(box, label) >= SAME


def share(part, whole):
    return "%.1f %% (%d of %d)" % (100 * part / max(whole, 1), part, whole)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--models", type=Path, default=HERE / "models", help="repository of the nets"
    )
    options = parser.parse_args()
    nets, truth, counts = Nets(options.models), labels(options.folder), Counts()
    for path in sorted((options.folder / "images").iterdir()):
        if path.suffix.lower() in KINDS:
            counts.add(nets, load(path), truth.get(path.name, []))
    counts.show()


if __name__ == "__main__":
    main()
