"""From the reader's logits to a text: a beam search that knows how number plates are written."""

from functools import lru_cache

import numpy as np

ALPHABET = "0123456789ABEKMHOPCTYX"
BLANK = len(ALPHABET)
# Type 1 (cars) and type 1B (public transport), regions of two and three digits. L letter, D digit.
FORMS = ("LDDDLLDD", "LDDDLLDDD", "LLDDDDD", "LLDDDDDD")
# A text less probable than this is taken for nothing readable.
READABLE = 0.03
BEAM = 12
# Classes less probable than this in a column are not followed there.
UNLIKELY = 1e-4


def kind(character):
    return "D" if character.isdigit() else "L"


@lru_cache(maxsize=None)
def may_follow(kinds):
    """The kinds of characters that some form has after these."""
    return {form[len(kinds)] for form in FORMS if form.startswith(kinds) and len(form) > len(kinds)}


def read(logits):
    """(text, probability) for logits [23, columns]; the text is empty where nothing is readable."""
    scores = np.exp(logits - logits.max(axis=0))
    scores /= scores.sum(axis=0)
    # Text so far, with the kinds of its characters: probability of ending in a blank, and not.
    beam = {("", ""): (1.0, 0.0)}
    for column in scores.T:
        likely = [c for c in np.flatnonzero(column[:BLANK] > UNLIKELY)]
        beam = best(step(beam, column, likely))
    ended = {text: sum(mass) for (text, kinds), mass in beam.items() if kinds in FORMS}
    text = max(ended, key=ended.get, default="")
    probability = float(ended.get(text, 0.0))
    return (text, probability) if probability >= READABLE else ("", probability)


def step(beam, column, likely):
    """Every way to go on by one column."""
    onward = {}

    def add(key, blank, character):
        old = onward.get(key, (0.0, 0.0))
        onward[key] = (old[0] + blank, old[1] + character)

    for (text, kinds), (blank, character) in beam.items():
        add((text, kinds), (blank + character) * column[BLANK], 0.0)
        allowed = may_follow(kinds)
        for index in likely:
            letter = ALPHABET[index]
            again = text.endswith(letter)
            if again:
                add((text, kinds), 0.0, character * column[index])
            # The same character twice needs a blank between.
            before = blank if again else blank + character
            if before and kind(letter) in allowed:
                add((text + letter, kinds + kind(letter)), 0.0, before * column[index])
    return onward


def best(beam):
    if len(beam) <= BEAM:
        return beam
    kept = sorted(beam.items(), key=lambda item: -sum(item[1]))[:BEAM]
    return dict(kept)
