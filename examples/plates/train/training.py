"""What both training scripts share: samples, averaged weights, checkpoints, curves."""

import argparse
import copy
import csv
import math
import os
import time

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

SEED = 50577


def arguments(minutes):
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--minutes", type=float, default=minutes, help="how long to train, over all runs"
    )
    parser.add_argument("--steps", type=int, help="stop after so many batches, over all runs")
    parser.add_argument("--assets", help="folder made by assets.sh: fonts and background pictures")
    parser.add_argument("--out", default="checkpoints", help="folder of checkpoints and curves")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument(
        "--begin", help="repository like ../models-article: train its weights on, not new ones"
    )
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    return options


class Batches(IterableDataset):
    """Batches from a process of its own, each with its own seed: a resumed run gets new ones."""

    def __init__(self, make, first):
        self.make, self.first = make, first

    def __iter__(self):
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        number = self.first
        while True:
            yield self.make(np.random.default_rng([SEED, number]))
            number += 1

    def loader(self):
        return iter(DataLoader(self, batch_size=None, num_workers=1, prefetch_factor=4))


def begun(net, file):
    """The net with the weights of a TorchScript file that export.py wrote."""
    net.load_state_dict(torch.jit.load(file).state_dict(), strict=False)
    return net


class Run:
    """Nets, their running average, an optimiser, the clock; saved and found again."""

    def __init__(self, name, nets, options):
        nets.to(memory_format=torch.channels_last)
        self.name, self.nets, self.options = name, nets, options
        self.averages = copy.deepcopy(nets).requires_grad_(False)
        parameters = [p for p in nets.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=1e-3)
        self.step, self.spent, self.started = 0, 0.0, time.time()
        self.path = os.path.join(options.out, name + ".ckpt")
        if os.path.exists(self.path):
            state = torch.load(self.path)
            nets.load_state_dict(state["nets"])
            self.averages.load_state_dict(state["averages"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.spent = state["step"], state["spent"]

    def minutes(self):
        return (self.spent + time.time() - self.started) / 60

    def done(self):
        steps = self.options.steps
        return self.minutes() >= self.options.minutes or (steps and self.step >= steps)

    def learn(self, loss):
        share = min(self.minutes() / self.options.minutes, 1)
        warm = min(1, (self.step + 1) / 200)
        for group in self.optimiser.param_groups:
            group["lr"] = (
                self.options.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
            )
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.nets.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        keep = min(0.998, self.step / (self.step + 10))
        with torch.no_grad():
            new = self.nets.state_dict()
            for key, value in self.averages.state_dict().items():
                if value.dtype.is_floating_point:
                    value.lerp_(new[key], 1 - keep)
                else:
                    value.copy_(new[key])

    def save(self):
        state = {
            "nets": self.nets.state_dict(),
            "averages": self.averages.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "spent": self.minutes() * 60,
        }
        torch.save(state, self.path + ".new")
        os.replace(self.path + ".new", self.path)

    def log(self, **values):
        values = {"minutes": round(self.minutes(), 2), "step": self.step, **values}
        path = os.path.join(self.options.out, self.name + ".csv")
        new = not os.path.exists(path)
        with open(path, "a", newline="") as file:
            writer = csv.DictWriter(file, values)
            if new:
                writer.writeheader()
            writer.writerow(values)
        print(values, flush=True)
