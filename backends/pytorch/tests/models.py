"""Makes the TorchScript models of the tests: `models.py FOLDER`."""

import os
import sys
from typing import List, Tuple

import torch


class Scale(torch.nn.Module):
    def forward(self, x):
        return x * 2 + 1


class SumAndDifference(torch.nn.Module):
    def forward(self, left, right) -> Tuple[torch.Tensor, torch.Tensor]:
        return left + right, (left - right).to(torch.int64)


class Names(torch.nn.Module):
    def forward(self, x) -> List[str]:
        return ["a", "", "xyz"]


class Picky(torch.nn.Module):
    def forward(self, x):
        if x.size(1) != 2:
            raise ValueError("two columns, please")
        return x


class Writes(torch.nn.Module):
    def forward(self, x):
        return x.add_(1)


class Counts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return x + self.runs


for model in (Scale, SumAndDifference, Names, Picky, Writes, Counts):
    folder = os.path.join(sys.argv[1], model.__name__, "1")
    os.makedirs(folder)
    torch.jit.script(model().eval()).save(os.path.join(folder, "model.pt"))
