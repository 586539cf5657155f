"""The three nets: a detector, a straightener and a reader, all made of plain convolutions.

Only operators that any ONNX engine has: no adaptive pooling, no affine_grid, no 3-d pooling.
"""

import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 23  # 22 characters and the blank of CTC, which is the last
CROP = (48, 128)  # height and width of what the straightener takes
PLATE = (24, 94)  # and of what it gives


class Step(nn.Sequential):
    """Convolution, normalisation, activation."""

    def __init__(self, inputs, outputs, kernel=3, stride=1, padding=None, act=None):
        if padding is None:
            padding = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(outputs),
            act or nn.ReLU(inplace=True),
        )


class Straightener(nn.Module):
    """A spatial transformer: crops [N,3,48,128] to the plates in them, straight, [N,3,24,94]."""

    def __init__(self):
        super().__init__()
        self.see = nn.Sequential(
            Step(3, 16, 5, 2), Step(16, 32, 3, 2), Step(32, 48, 3, 2), Step(48, 64, 3, 2)
        )
        self.decide = nn.Sequential(nn.Linear(64 * 3 * 8, 64), nn.ReLU(), nn.Linear(64, 6))
        nn.init.zeros_(self.decide[2].weight)
        with torch.no_grad():
            # A loose box: the plate is the middle of the crop.
            self.decide[2].bias.copy_(torch.tensor([0.9, 0.0, 0.0, 0.0, 0.65, 0.0]))
        height, width = PLATE
        x = (torch.arange(width) + 0.5) / width * 2 - 1
        y = (torch.arange(height) + 0.5) / height * 2 - 1
        places = torch.stack(
            [x.repeat(height), y.repeat_interleave(width), torch.ones(height * width)]
        )
        self.register_buffer("places", places, persistent=False)
        # The centres of the outermost pixels. Keeping to them is padding with the border, which not
        # every engine has.
        outermost = torch.tensor([1 - 1 / CROP[1], 1 - 1 / CROP[0]])
        self.register_buffer("outermost", outermost, persistent=False)

    def transform(self, crops):
        return self.decide(self.see(crops).flatten(1)).view(-1, 2, 3)

    def cut(self, crops, transform):
        # affine_grid, written out.
        grid = torch.matmul(transform, self.places).transpose(1, 2).reshape(-1, *PLATE, 2)
        grid = torch.max(torch.min(grid, self.outermost), -self.outermost)
        return F.grid_sample(
            crops, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )

    def forward(self, crops):
        return self.cut(crops, self.transform(crops))


class Norm(nn.Module):
    """Divides by the mean square of the sample, and of no other sample in the batch."""

    def forward(self, x):
        return x / (x.pow(2).mean(dim=(1, 2, 3), keepdim=True) + 1e-4).sqrt()


class Reader(nn.Module):
    """After LPRNet: straight plates [N,3,24,94] to logits [N,23,47], a column for two pixels."""

    def __init__(self):
        super().__init__()
        self.early = nn.Sequential(Step(3, 32), Step(32, 64, 3, 2), Step(64, 80))
        self.middle = nn.Sequential(Step(80, 112, 3, (2, 1)), Step(112, 112))
        self.late = nn.Sequential(Step(112, 144, 3, (2, 1)), Step(144, 160, (3, 1), 1, (0, 0)))
        # What the plate looks like as a whole, at three depths (LPRNet's global context).
        self.around = nn.ModuleList([nn.Conv2d(n, 16, 1) for n in (80, 112, 160)])
        self.norm = Norm()
        self.drop = nn.Dropout(0.2)
        self.along = Step(160 + 48, 128, (1, 7))
        self.answer = nn.Conv2d(128, CLASSES, 1)

    def forward(self, plates):
        early = self.early(plates)
        middle = self.middle(early)
        late = self.late(middle)
        columns = [self.norm(late)]
        for look, x in zip(self.around, (early, middle, late)):
            columns.append(self.norm(look(x).mean(dim=2, keepdim=True)))
        features = self.along(self.drop(torch.cat(columns, dim=1)))
        return self.answer(features).squeeze(2)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.steps = nn.Sequential(
            Step(channels, channels // 2, 1, act=nn.ReLU()),
            Step(channels // 2, channels, 3, act=nn.ReLU()),
        )

    def forward(self, x):
        return x + self.steps(x)


# Widths and heights of the anchors, in pixels of the detector's input, for each stride.
ANCHORS = {8: [(22, 7), (46, 15)], 16: [(78, 25), (135, 42)], 32: [(220, 66), (380, 115)]}


class Detector(nn.Module):
    """After YOLOv5, for one class: pictures [N,3,H,W] to boxes [N,A,5].

    H and W are multiples of 32. A box is (x, y, w, h, confidence): centre and size in pixels.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(Step(3, 16, 3, 2), Step(16, 32, 3, 2), Residual(32))
        self.to8 = nn.Sequential(Step(32, 56, 3, 2), Residual(56), Residual(56))
        self.to16 = nn.Sequential(Step(56, 96, 3, 2), Residual(96), Residual(96))
        self.to32 = nn.Sequential(Step(96, 128, 3, 2), Residual(128))
        self.lower32 = Step(128, 64, 1)
        self.join16 = nn.Sequential(Step(96 + 64, 80, 1), Residual(80))
        self.lower16 = Step(80, 40, 1)
        self.join8 = nn.Sequential(Step(56 + 40, 56, 1), Residual(56))
        self.heads = nn.ModuleList(
            [nn.Conv2d(n, len(a) * 5, 1) for n, a in zip((56, 80, 128), ANCHORS.values())]
        )
        for head in self.heads:
            nn.init.normal_(head.weight, std=0.01)
            with torch.no_grad():
                head.bias.view(-1, 5)[:] = torch.tensor([0.0, 0, 0, 0, -6.0])

    def raw(self, pictures):
        """Each stride's answers before decoding: [N, anchors, 5, rows, columns]."""
        at8 = self.to8(self.stem(pictures))
        at16 = self.to16(at8)
        at32 = self.to32(at16)
        up = F.interpolate(self.lower32(at32), scale_factor=2.0, mode="nearest")
        join16 = self.join16(torch.cat([at16, up], dim=1))
        up = F.interpolate(self.lower16(join16), scale_factor=2.0, mode="nearest")
        join8 = self.join8(torch.cat([at8, up], dim=1))
        outputs = []
        for head, x, anchors in zip(self.heads, (join8, join16, at32), ANCHORS.values()):
            y = head(x)
            outputs.append(y.view(y.shape[0], len(anchors), 5, y.shape[2], y.shape[3]))
        return outputs

    def forward(self, pictures):
        found = []
        for y, (stride, anchors) in zip(self.raw(pictures), ANCHORS.items()):
            y = y.permute(0, 1, 3, 4, 2).sigmoid()
            rows = torch.arange(y.shape[2], dtype=y.dtype)
            columns = torch.arange(y.shape[3], dtype=y.dtype)
            centre_x = (y[..., 0] * 2 - 0.5 + columns.view(1, 1, 1, -1)) * stride
            centre_y = (y[..., 1] * 2 - 0.5 + rows.view(1, 1, -1, 1)) * stride
            sizes = torch.tensor(anchors, dtype=y.dtype)
            width = (y[..., 2] * 2).pow(2) * sizes[:, 0].view(1, -1, 1, 1)
            height = (y[..., 3] * 2).pow(2) * sizes[:, 1].view(1, -1, 1, 1)
            boxes = torch.stack([centre_x, centre_y, width, height, y[..., 4]], dim=-1)
            found.append(boxes.reshape(y.shape[0], -1, 5))
        return torch.cat(found, dim=1)
