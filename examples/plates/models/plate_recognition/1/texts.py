"""From the reader's logits to a text: a beam search that knows how number plates are written."""

from functools import lru_cache

import numpy as np

ALPHABET = "0123456789ABEKMHOPCTYX"
BLANK = len(ALPHABET)
# Type 1 (cars) and type 1B (public transport), regions of two and three digits. L letter, D digit.
FORMS = ("LDDDLLDD", "LDDDLLDDD", "LLDDDDD", "LLDDDDDD")
# Three-digit codes of regions that are in use; of two digits nearly all are.
LONG_CODES = frozenset(
    """101 102 103 109 111 113 116 118 121 122 123 124 125 126 130 134 136 138 142 147 150 152 154 155
    156 158 159 161 163 164 169 172 173 174 176 177 178 180 181 182 184 185 186 188 190 192 193 196
    197 198 199 250 252 254 277 299 323 550 702 716 725 750 754 761 763 774 777 790 797 799 916 977
    """.split()
)
# How much less is thought of a text with another code, or with three zeros.
UNUSUAL = 0.1
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
    ended = {
        text: sum(mass) * usual(text) for (text, kinds), mass in beam.items() if kinds in FORMS
    }
    text = max(ended, key=ended.get, default="")
    probability = float(ended.get(text, 0.0))
    return (text, probability) if probability >= READABLE else ("", probability)


def usual(text):
    """How likely a plate says this at all, compared with a code and a number that are in use."""
    code, digits = text[6:], text[1:4]
    if text[1].isalpha():  # Type 1B: two letters, then the digits.
        code, digits = text[5:], text[2:5]
    known = code in LONG_CODES if len(code) == 3 else code != "00"
    return (1.0 if known else UNUSUAL) * (UNUSUAL if digits == "000" else 1.0)


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
