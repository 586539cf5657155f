"""Draws the curves of both training runs: plot.py CHECKPOINTS OUT.png"""

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

CURVES = (
    ("reader", "exact", "reader with straightener, held-out crops: share read exactly"),
    ("detector", "recall", "detector, held-out scenes: recall"),
    ("detector", "false", "detector, held-out scenes: false boxes a picture"),
)


def main(folder, out):
    figure, axes = plt.subplots(figsize=(8, 4))
    for name, column, label in CURVES:
        with open(Path(folder) / (name + ".csv"), newline="") as file:
            rows = list(csv.DictReader(file))
        minutes = [float(row["minutes"]) for row in rows]
        axes.plot(minutes, [float(row[column]) for row in rows], label=label)
    axes.set_xlabel("minutes of training (one process each, two cores shared with other work)")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(loc="center right", fontsize="small")
    figure.tight_layout()
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
