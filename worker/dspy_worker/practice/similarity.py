"""How alike two texts are: stemmed words and letter triples, compared by cosine.

`noise` is the only source of chance in the practice LM: a fixed function of its key, so that the
same prompt gets the same answer in every process.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import math
import re
from collections.abc import Mapping

Bag = Mapping[str, float]

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[$%]", re.ASCII)
SUFFIXES = ("ing", "ed", "es", "s")
STOP_WORDS = """
    a about after all also am an and any are as at be because been before but by can could did do
    does don't for from get got had has have he her here his how i i'm if in into is it it's its
    just me more most my no not of on one only or our out over per please said say she so some such
    than that the their them then there these they this those to up very was we were what when where
    which who why will with would you your
"""
STOP = frozenset(STOP_WORDS.split())
WORD_WEIGHT = 2.0
TRIPLE_WEIGHT = 0.35


def stem(word: str) -> str:
    """Cut one English ending, so that "charged" meets "charge"."""
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) > len(suffix) + 3:
            return word[: -len(suffix)].removesuffix("e")
    return word.removesuffix("e") if len(word) > len("due") else word


def words(text: str) -> list[str]:
    """Return the stems of the words that carry meaning, in their order."""
    found = WORD.findall(text.lower())
    return [stem(word) for word in found if word not in STOP and (len(word) > 1 or word in "$%")]


@functools.lru_cache(maxsize=8192)
def bag(text: str) -> Bag:
    """Weigh the stems of a text and their letter triples, which forgive spelling."""
    weights: collections.Counter[str] = collections.Counter()
    for word in words(text):
        weights[word] += WORD_WEIGHT  # type: ignore[assignment]  # a Counter holds floats as well
        padded = f"^{word}$"
        for start in range(len(padded) - 2):
            weights[f"~{padded[start : start + 3]}"] += TRIPLE_WEIGHT  # type: ignore[assignment]  # as above
    return weights


@functools.lru_cache(maxsize=8192)
def length(text: str) -> float:
    """Return the Euclidean length of the bag of a text."""
    return math.sqrt(sum(weight * weight for weight in bag(text).values()))


def cosine(left: str, right: str) -> float:
    """Return how alike two texts are, from 0 (nothing in common) to 1 (the same words)."""
    small, large = sorted((bag(left), bag(right)), key=len)
    dot = sum(weight * large[key] for key, weight in small.items() if key in large)
    return dot / (length(left) * length(right)) if dot else 0.0


def digest(*key: object) -> bytes:
    """Return 32 bytes that depend on nothing but the key."""
    return hashlib.sha256("\0".join(map(str, key)).encode(errors="replace")).digest()


def noise(*key: object) -> float:
    """Return a fixed number for the key; over many keys it is about normal(0, 1)."""
    twelve = digest(*key)[:12]
    return (sum(twelve) - 12 * 127.5) / 256.0


def share(*key: object) -> float:
    """Return a fixed number for the key; over many keys it is uniform in [0, 1)."""
    return int.from_bytes(digest(*key)[:6]) / 2**48
