"""Trains the straightener and the reader together: first on known columns, then by CTC."""

import crops
import numpy as np
import torch
from glyphs import ALPHABET
from nets import Reader, Straightener
from torch import nn
from torch.nn import functional as F
from training import Batches, Run, arguments, begun

BATCH = 48
# So many steps for a point of the curves and a checkpoint.
EVERY = 100
# Steps on known columns alone, and after how many more CTC has taken over.
WARM, MIXED = 600, 600
# Where the corners of a straightened plate are.
PLATE_CORNERS = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])


def make(fonts):
    def batch(rng):
        samples = [crops.sample(rng, fonts) for _ in range(BATCH)]
        pictures, texts, columns, corners = zip(*samples)
        return np.stack(pictures), list(texts), np.stack(columns), np.stack(corners)

    return batch


def tensors(batch):
    pictures, texts, columns, corners = batch
    pictures = (torch.as_tensor(pictures).permute(0, 3, 1, 2).float() - 127.5) * 0.0078125
    return pictures.contiguous(), texts, torch.as_tensor(columns), torch.as_tensor(corners)


def best_fit(corners):
    """The affine transform [N,2,3] nearest to taking the plate's corners there."""
    return (torch.linalg.pinv(PLATE_CORNERS) @ corners).transpose(1, 2)


def ctc(logits, texts):
    scores = logits.permute(2, 0, 1).log_softmax(2)
    targets = torch.tensor([ALPHABET.index(c) for text in texts for c in text])
    lengths = torch.tensor([len(text) for text in texts])
    columns = torch.full((len(texts),), logits.shape[2])
    return F.ctc_loss(scores, targets, columns, lengths, blank=len(ALPHABET), zero_infinity=True)


def greedy(logits):
    texts = []
    for best in logits.argmax(1).numpy():
        kept = [c for i, c in enumerate(best) if (i == 0 or c != best[i - 1]) and c < len(ALPHABET)]
        texts.append("".join(ALPHABET[c] for c in kept))
    return texts


def main():
    options = arguments(minutes=60)
    nets = nn.ModuleDict({"stn": Straightener(), "reader": Reader()})
    if options.begin:
        begun(nets["stn"], options.begin + "/stn/1/model.pt")
        begun(nets["reader"], options.begin + "/lprnet/1/model.pt")
    run = Run("reader", nets, options)
    stn, reader = run.nets["stn"], run.nets["reader"]
    held_out = [tensors(make(options.assets)(np.random.default_rng([1, i]))) for i in range(8)]
    batches = Batches(make(options.assets), run.step).loader()
    sums = np.zeros(3)
    while not run.done():
        pictures, texts, columns, corners = tensors(next(batches))
        target = best_fit(corners)
        transform = stn.transform(pictures)
        straight = F.mse_loss(transform @ PLATE_CORNERS.T, target @ PLATE_CORNERS.T)
        share = 1 if options.begin else min(max((run.step - WARM) / MIXED, 0), 1)
        # While the straightener learns, the reader sees plates straightened by the truth.
        shown = target if run.step < WARM // 2 and not options.begin else transform
        logits = reader(stn.cut(pictures, shown))
        weight = torch.ones(len(ALPHABET) + 1)
        weight[-1] = 0.5
        framewise = F.cross_entropy(logits, columns, weight=weight)
        loss = 10 * straight + (1 - 0.9 * share) * framewise
        if share > 0:
            loss = loss + share * ctc(logits, texts)
        run.learn(loss)
        sums += [straight.item(), framewise.item(), loss.item()]
        if run.step % EVERY == 0:
            means, sums = sums / EVERY, np.zeros(3)
            exact = evaluate(run.averages.eval(), held_out)
            run.log(
                corners=round(means[0], 5),
                columns=round(means[1], 4),
                loss=round(means[2], 4),
                exact=round(exact, 4),
            )
            run.save()
    run.save()


@torch.no_grad()
def evaluate(nets, held_out):
    right = total = 0
    for pictures, texts, _, _ in held_out:
        read = greedy(nets["reader"](nets["stn"](pictures)))
        right += sum(a == b for a, b in zip(read, texts))
        total += len(texts)
    return right / total


if __name__ == "__main__":
    main()
