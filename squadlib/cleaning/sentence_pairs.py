"""Find the answers of a translated SQuAD file again, and write a plain SQuAD file in the target language.

    python clean_squad.py --input_file nl_squadv2_train.json --output_file nl_squadv2_train_clean.json

Reads what translate_squad.py wrote: a SQuAD document with the source texts under their usual keys and the translations
beside them (`context_t`, `sentences`, `question_t`, and for each answer `iso_t`, the answer translated alone). Writes
title, context, questions and answers of the translation, with `answer_start` counted in the translated context, and
prints what was kept, what was dropped and why.

--method align (default) learns from the file itself which words translate each other, and looks in the translation of
the answer's sentence for the words that belong to the answer. --method literal is the rule of the published Dutch set:
the first place where the answer's isolated translation stands letter by letter; it loses about a third of the answers.
"""

from __future__ import annotations

import argparse
import heapq
import logging
import math
import os
import re
import sys
import unicodedata
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from rapidfuzz import fuzz, process

from utils_squad import (
    SquadError,
    check_output_path,
    exit_with_faults,
    iter_questions,
    load_squad,
    progress_bar,
    script_main,
    setup_logging,
    write_json,
)

METHODS = ("align", "literal")
NUM_SAMPLES = 20  # of the least certain answers, in the report
MIN_CONFIDENCE = 0.25  # on real machine translation every answer is above; see benchmarks/README.md

# Score of a candidate: how much it reads like the isolated translation, how many of its words are translations of the
# answer's words, and how near it is to the relative place of the answer. Moving one by 0.1 changes F1 by less than 0.3.
LEXICAL_WEIGHT, ALIGNMENT_WEIGHT, POSITION_WEIGHT = 0.45, 0.45, 0.1
POSITION_SCALE = 60  # characters
REORDERED = SOURCE_KEPT = 0.97  # lexical similarity counts a little less in another word order, or with the source text

# Word alignment: IBM model 1 (Brown et al. 1993) with the diagonal prior of fast_align (Dyer et al. 2013).
NUM_ITERATIONS = 5
STEM_LENGTH, PREFIX_LENGTH = 5, 3  # letters: words are compared by their beginning, endings inflect
SAME_STEM_COUNT, SAME_PREFIX_COUNT = 2.0, 0.3  # times that two words that look alike count as seen together
DIAGONAL, NULL_PROBABILITY = 5.0, 0.04
MAX_TABLE_BITS = 25  # 2**25 pairs of float32 = 256 MiB, however large the corpus
CHUNK_PAIRS = 1 << 17  # word pairs worked on at a time: they stay in the processor's cache
MAX_SENTENCE_TOKENS = 250  # longer "sentences" (no full stop for a page) are cropped around the answer
FEW_PAIRS = 1000  # with fewer sentence pairs than this the learned translations are weak

SOURCE_ARTICLES = frozenset({"the", "a", "an"})
ARTICLE_SHARE, ARTICLE_FREQUENCY = 0.55, 0.002  # what makes a target word an article: see WordAligner.learn_articles

logger = logging.getLogger("clean_squad")


# ---------------------------------------------------------------------------------------------------------------------
# Text: whole tokens, and the forms in which they are compared
# ---------------------------------------------------------------------------------------------------------------------

Span = tuple[int, int]

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Thai … Han
JOINERS = "\u00ad\u200b-\u200d\u2060"  # soft hyphen, zero-width characters: inside a word, never seen


@lru_cache(maxsize=1)
def token_pattern() -> re.Pattern[str]:
    """The pattern of one whole token: a word, a number, an abbreviation, a symbol that is read aloud."""
    marks = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
    letters = rf"[^\W_{UNSPACED}]*(?:[{marks}{JOINERS}]+[^\W_{UNSPACED}]*)*"
    return re.compile(
        r"(?:[^\W\d_]{1,2}\.){2,}"  # d.w.z.  v.Chr.  EE.UU.
        rf"|[^\W\d_{UNSPACED}]{letters}"
        r"|\d{1,3}(?:[ \u00a0\u202f\u2009]\d{3})+(?!\w)"  # 1 234 567
        rf"|\d+(?:[.,:]\d+)*{letters}"  # 1.234,5  19e  1990s
        rf"|[{UNSPACED}$€£¥%‰°#&]"
        r"|(?<!\w)['’‘][sntSNT](?!\w)"  # 's-Hertogenbosch, 't
    )


def tokenize(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """(start, end) of every token of text[start:end], in characters of `text`."""
    return [match.span() for match in token_pattern().finditer(text, start, len(text) if end is None else end)]


@lru_cache(maxsize=1 << 18)
def fold(token: str) -> str:
    """The token without case, accents, joiners and typography; of a number its digits only.

    "België" -> "belgie", "1.234,50" and "1,234.50" -> "123450", "’s" -> "'s"
    """
    if token[0].isdigit():
        return "".join(char for char in token if char.isdigit())
    text = unicodedata.normalize("NFKD", token.casefold().replace("’", "'").replace("‘", "'"))
    return "".join(char for char in text if unicodedata.category(char)[0] not in "MC") or token


def stem(token: str) -> str:
    """What stands for the token in the word alignment: the first letters of its folded form, or its digits."""
    folded = fold(token)
    return folded if folded[0].isdigit() else folded[:STEM_LENGTH]


def fold_text(text: str) -> list[str]:
    return [fold(text[start:end]) for start, end in tokenize(text)]


def without_article(words: list[str], articles: frozenset[str]) -> list[str]:
    return words[1:] if len(words) > 1 and words[0] in articles else words


def usable_text(value: Any) -> str | None:
    """The value if it is text that can be read and written, else None (missing, blank, half a surrogate pair)."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return value


def is_echo(source: str, target: str | None) -> bool:
    """True when the "translation" is the source again: at least four words, and the same ones."""
    if target is None:
        return False
    source, target = (" ".join(text.casefold().split()) for text in (source, target))
    return source == target and sum(not word[0].isdigit() for word in fold_text(source)) >= 4


# ---------------------------------------------------------------------------------------------------------------------
# Sentences: the map of the file, or one made from lengths and shared words
# ---------------------------------------------------------------------------------------------------------------------

BEADS = {(1, 1): 0.0, (1, 2): 1.0, (2, 1): 1.0, (2, 2): 2.0, (1, 3): 2.5, (3, 1): 2.5, (1, 0): 4.0, (0, 1): 4.0}
LENGTH_VARIANCE = 3.4  # of a translation's length, per character (Gale and Church 1993)
SHARED_WORDS = 6.0  # what a bead gains when all its words (names, numbers, cognates) are shared


class Sentence(NamedTuple):
    """Character spans of a sentence and its translation; target_start is None where there is none."""

    start: int
    end: int
    target_start: int | None
    target_end: int | None


def read_sentence_map(raw: Any, source: str, target: str) -> list[Sentence] | None:
    """The paragraph's `sentences` as records, or None when it is missing or does not fit the two texts."""
    if not isinstance(raw, list) or not raw:
        return None
    sentences, last = [], 0
    for row in raw:
        if not isinstance(row, list) or len(row) != 4 or type(row[0]) is not int or type(row[1]) is not int:
            return None
        start, end, target_start, target_end = row
        if not last <= start <= end <= len(source):
            return None
        last = end
        if type(target_start) is not int or type(target_end) is not int:
            target_start = target_end = None
        elif not 0 <= target_start <= target_end <= len(target):
            return None
        sentences.append(Sentence(start, end, target_start, target_end))
    return sentences


def align_sentences(source: str, target: str) -> list[Sentence]:
    """A sentence map for a paragraph without one: the cheapest path of beads (1-1, 1-2, 2-1, …) through both texts."""
    from translate_squad import split_sentences  # here, because only files without a map need it

    left, right = split_sentences(source), split_sentences(target)
    left_words, right_words = sentence_words(source, left), sentence_words(target, right)
    ratio = len(target) / max(1, len(source))
    band = 20 + len(right) // max(1, len(left))  # keeps long texts quick
    best: dict[Span, tuple[float, Span]] = {(0, 0): (0.0, (0, 0))}
    for i in range(len(left) + 1):
        middle = i * len(right) // max(1, len(left))
        for j in range(max(0, middle - band), min(len(right), middle + band) + 1):
            for (di, dj), cost in BEADS.items():
                before = best.get((i - di, j - dj))
                if before is None:
                    continue
                if di and dj:
                    lengths = (left[i - 1][1] - left[i - di][0]) * ratio, right[j - 1][1] - right[j - dj][0]
                    cost += bead_cost(lengths, (left_words[i - di, i], right_words[j - dj, j]))
                if (i, j) not in best or before[0] + cost < best[i, j][0]:
                    best[i, j] = (before[0] + cost, (di, dj))
    return trace_beads(best, left, right)


def sentence_words(text: str, spans: list[Span]) -> dict[Span, frozenset[str]]:
    """The stems of every one, two and three consecutive sentences, by (first, last), last excluded."""
    words = [frozenset(stem(text[start:end]) for start, end in tokenize(text, *span)) for span in spans]
    return {
        (first, first + count): frozenset().union(*words[first : first + count])
        for count in (1, 2, 3)
        for first in range(len(words) - count + 1)
    }


def bead_cost(lengths: tuple[float, float], words: tuple[frozenset[str], frozenset[str]]) -> float:
    """How badly two stretches of text fit as translations: difference in length, less the words they share."""
    deviation = abs(lengths[0] - lengths[1]) / math.sqrt(LENGTH_VARIANCE * sum(lengths) / 2 + 1)
    shared = len(words[0] & words[1]) / math.sqrt(max(1, len(words[0]) * len(words[1])))
    return deviation - SHARED_WORDS * shared


def trace_beads(best: dict[Span, tuple[float, Span]], left: list[Span], right: list[Span]) -> list[Sentence]:
    """The sentences along the cheapest path, from its end; one without counterpart gets the neighbours' place."""
    i, j, sentences = len(left), len(right), []
    while i or j:
        di, dj = best[i, j][1]
        if di:
            low, high = (j - dj, j) if dj else (max(0, j - 1), min(len(right), j + 1))  # none: both neighbours
            target = (right[low][0], right[high - 1][1]) if low < high else (None, None)
            sentences.append(Sentence(left[i - di][0], left[i - 1][1], *target))
        i, j = i - di, j - dj
    return sentences[::-1]


# ---------------------------------------------------------------------------------------------------------------------
# Word alignment, learned from the translated file itself
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Corpus:
    """Sentence pairs as word numbers, one after the other in flat arrays; both languages share one vocabulary."""

    vocabulary: dict[str, int] = field(default_factory=dict)
    words: tuple[array, array] = field(default_factory=lambda: (array("i"), array("i")))  # source, target
    lengths: tuple[array, array] = field(default_factory=lambda: (array("i"), array("i")))

    def number(self, text: str, spans: Iterable[Span]) -> list[int]:
        vocabulary = self.vocabulary
        return [vocabulary.setdefault(stem(text[start:end]), len(vocabulary)) for start, end in spans]

    def add(self, source: str, target: str) -> None:
        pair = [self.number(text, tokenize(text)) for text in (source, target)]
        if all(0 < len(side) <= MAX_SENTENCE_TOKENS for side in pair):
            for words, lengths, side in zip(self.words, self.lengths, pair, strict=True):
                words.extend(side)
                lengths.append(len(side))

    def __len__(self) -> int:
        return len(self.lengths[0])


class WordPairs(NamedTuple):
    """Every source word with every target word of the same sentence pair, ordered by target word: parallel arrays."""

    sides: tuple[np.ndarray, np.ndarray]  # (source, target) texts as word numbers, one a token
    words: tuple[np.ndarray, np.ndarray]  # (source, target) word numbers, one a pair
    tokens: tuple[np.ndarray, np.ndarray]  # which token of the (source, target) text this is
    diagonal: np.ndarray  # exp(-DIAGONAL · |relative place in the source - in the target|)


def cross(sides: tuple[np.ndarray, np.ndarray], lengths: tuple[np.ndarray, np.ndarray]) -> WordPairs:
    """The word pairs of consecutive sentence pairs. sides: word numbers; lengths: words of each sentence."""
    source_lengths, target_lengths = lengths
    sentence = np.repeat(np.arange(len(target_lengths), dtype=np.int32), target_lengths)  # of each target token
    row_lengths = source_lengths[sentence]
    target = np.repeat(np.arange(len(sentence), dtype=np.int32), row_lengths)
    first_source = (np.cumsum(source_lengths) - source_lengths)[sentence]
    row_starts = np.cumsum(row_lengths) - row_lengths
    source = np.arange(len(target)) - np.repeat(row_starts - first_source, row_lengths)
    places = [relative_places(side) for side in lengths]
    diagonal = np.exp(np.float32(-DIAGONAL) * np.abs(places[0][source] - places[1][target]))
    return WordPairs(sides, (sides[0][source], sides[1][target]), (source, target), diagonal)


def relative_places(lengths: np.ndarray) -> np.ndarray:
    """The middle of each token between 0 (its sentence's start) and 1 (its end), for sentences of these lengths."""
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return ((np.arange(len(starts)) - starts + 0.5) / np.repeat(lengths, lengths)).astype(np.float32)


class WordAligner:
    """P(these two words translate each other), learned from a corpus in both directions at once.

    The expected counts of a word pair are kept at a hash of its two words, in a table of fixed size: pairs that collide
    share their counts, which blurs rare pairs a little and bounds the memory. Words that look alike count as if they
    had been seen together. Column 0 is for target words explained by the source, column 1 the other way round.
    """

    def __init__(self, corpus: Corpus):
        self.corpus = corpus
        words, lengths = (tuple(np.array(side, np.int32) for side in sides) for sides in (corpus.words, corpus.lengths))
        num_pairs = int((lengths[0].astype(np.int64) * lengths[1]).sum())
        self.bits = min(MAX_TABLE_BITS, max(12, math.ceil(math.log2(num_pairs + 1))))
        self.counts = np.zeros((1 << self.bits, 2), np.float32)
        self.totals = np.zeros((2, len(corpus.vocabulary)), np.float32)  # of each word as (source, target)
        self.look = look_numbers(corpus.vocabulary)
        # what the null word gives: a word's share of its own language
        counted = [np.bincount(side, minlength=len(corpus.vocabulary)) + 0.01 for side in words[::-1]]
        self.null = [(NULL_PROBABILITY * count / count.sum()).astype(np.float32) for count in counted]
        self.train(words, lengths)
        self.articles = self.learn_articles()

    def learn_articles(self) -> frozenset[str]:
        """Target words of at most STEM_LENGTH letters, not rare, that mostly stand for an English article."""
        numbers = np.arange(len(self.corpus.vocabulary), dtype=np.int32)
        as_article = np.zeros(len(numbers), np.float32)
        for article in SOURCE_ARTICLES & self.corpus.vocabulary.keys():
            source = np.full_like(numbers, self.corpus.vocabulary[article])
            as_article += self.counts[self.buckets((source, numbers)), 1]
        frequent = self.totals[1] >= max(3, ARTICLE_FREQUENCY * self.totals[1].sum())
        found = frequent & (as_article > ARTICLE_SHARE * self.totals[1])
        return frozenset(word for word, is_article in zip(self.corpus.vocabulary, found, strict=True) if is_article)

    def train(self, words: tuple[np.ndarray, np.ndarray], lengths: tuple[np.ndarray, np.ndarray]) -> None:
        """NUM_ITERATIONS of expectation maximisation, a bounded chunk of sentence pairs at a time."""
        chunks = list(split_chunks(lengths))
        with progress_bar(total=NUM_ITERATIONS * len(lengths[0]), unit="pair", desc="learning word pairs") as bar:
            for _ in range(NUM_ITERATIONS):
                counts, totals = np.zeros_like(self.counts), np.zeros(self.totals.shape)
                for sentences, *tokens in chunks:
                    chunk_lengths = lengths[0][sentences], lengths[1][sentences]
                    pairs = cross((words[0][tokens[0]], words[1][tokens[1]]), chunk_lengths)
                    buckets = self.buckets(pairs.words)
                    for column, expected in enumerate(self.expectations(pairs, buckets)):
                        np.add.at(counts[:, column], buckets, expected)
                        totals[column] += np.bincount(pairs.words[column], expected, totals.shape[1])
                    bar.update(len(chunk_lengths[0]))
                self.counts, self.totals = counts, totals.astype(np.float32)

    def buckets(self, words: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Row of `counts` for each pair of (source, target) words."""
        key = words[0].astype(np.uint64) << np.uint64(32) | words[1].astype(np.uint64)
        key *= np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing, twice, so that both words reach the top bits
        key ^= key >> np.uint64(32)
        key *= np.uint64(0xD6E8FEB86659FD93)
        return (key >> np.uint64(64 - self.bits)).astype(np.int64)

    def expectations(self, pairs: WordPairs, buckets: np.ndarray) -> Iterator[np.ndarray]:
        """P(the target word comes from this source word), then P(the source word from this target word): one a pair."""
        source, target = pairs.words
        alike = np.where(self.look[source] == self.look[target], np.float32(SAME_PREFIX_COUNT), np.float32(0.001))
        alike += (source == target) * np.float32(SAME_STEM_COUNT)
        both = self.counts[buckets]
        for column in (0, 1):
            seen = both[:, column] + alike
            # rare pairs count for less, as in variational Bayes: 0.1 -> 0.02, 1 -> 0.7, 10 -> 9.5
            odds = seen * seen / ((seen + np.float32(0.5)) * (self.totals[column][pairs.words[column]] + np.float32(1)))
            joint = odds * pairs.diagonal
            token, words = pairs.tokens[1 - column], pairs.sides[1 - column]  # what is to be explained
            scale = (1 - NULL_PROBABILITY) / np.bincount(token, pairs.diagonal, len(words))
            joint *= scale.astype(np.float32)[token]
            total = np.bincount(token, joint, len(words)) + self.null[column][words]
            yield joint / total.astype(np.float32)[token]

    def posteriors(self, source: list[int], target: list[int]) -> np.ndarray:
        """(target words, source words): probability that two words of a sentence pair translate each other, 0 to 1."""
        new = len(self.corpus.vocabulary) - len(self.look)
        if new:  # words met since the training: nothing is known of them but their spelling
            self.look = look_numbers(self.corpus.vocabulary)
            self.totals = np.pad(self.totals, ((0, 0), (0, new)))
            self.null = [np.pad(share, (0, new), mode="minimum") for share in self.null]
        sides = np.array(source, np.int32), np.array(target, np.int32)
        pairs = cross(sides, (np.array([len(source)]), np.array([len(target)])))
        return sum(self.expectations(pairs, self.buckets(pairs.words))).reshape(len(target), len(source)) / 2


def look_numbers(vocabulary: dict[str, int]) -> np.ndarray:
    """A number for each word that it shares with the words that begin alike; short words and figures have their own."""
    prefixes: dict[str, int] = {}
    looks = (
        prefixes.setdefault(word[:PREFIX_LENGTH], len(prefixes))
        if len(word) >= PREFIX_LENGTH and not word[0].isdigit()
        else -1 - number
        for word, number in vocabulary.items()
    )
    return np.fromiter(looks, np.int32, len(vocabulary))


def split_chunks(lengths: tuple[np.ndarray, np.ndarray]) -> Iterator[tuple[slice, slice, slice]]:
    """Slices (sentences, source words, target words) of at most CHUNK_PAIRS word pairs, or one sentence pair."""
    num_pairs = np.cumsum(lengths[0].astype(np.int64) * lengths[1])
    ends = [np.concatenate(([0], np.cumsum(side, dtype=np.int64))) for side in lengths]
    start = 0
    while start < len(num_pairs):
        done = num_pairs[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(num_pairs, done + CHUNK_PAIRS, side="right")))
        source, target = (slice(int(side[start]), int(side[end])) for side in ends)
        yield slice(start, end), source, target
        start = end


# ---------------------------------------------------------------------------------------------------------------------
# Answers: candidates, their scores, the best one
# ---------------------------------------------------------------------------------------------------------------------

NOT_TRANSLATED = "the answer is not translated"
NOT_LITERAL = "its translation does not stand in the context letter by letter"
NO_SENTENCE = "the sentence of the answer is not translated"
BAD_OFFSET = "the answer is not in the source context"
NO_PLACE = "nothing in the translated sentence can be the answer"
NO_ANSWER = "the source has no answer"
LOW_CONFIDENCE = "no place is likely enough (--min_confidence)"

QUOTES = "\"'“”„‟‘’‚‛«»‹›「」『』"
EDGES = "([{<)]}>.,;:!?…¿¡-–—/"


@dataclass(frozen=True)
class Translation:
    """A paragraph in both languages. Without a usable translation, target is empty and `fault` says why."""

    source: str
    target: str
    sentences: list[Sentence]
    fault: str = ""

    def spans_of(self, start: int, end: int) -> tuple[Span, Span] | None:
        """Spans of the sentences that hold source[start:end] and of their translations; None where there is none."""
        held = [sentence for sentence in self.sentences if sentence.start < end and start < sentence.end]
        if not held:  # the map has a hole here
            return (0, len(self.source)), (0, len(self.target))
        held = [sentence for sentence in held if sentence.target_start is not None]
        if not held:
            return None
        target = min(sentence.target_start for sentence in held), max(sentence.target_end for sentence in held)
        return (held[0].start, held[-1].end), target


@dataclass(frozen=True)
class Location:
    """Where an answer is in the translated context. start is None where it is not; then `strategy` says why."""

    start: int | None
    text: str
    strategy: str
    confidence: float = 0.0
    spans: tuple[Span, Span] | None = None  # the sentence of the answer, in the source and in the translation
    num_places: int = 0  # where the isolated translation stands, as whole tokens in any spelling
    resolved_by: str = ""  # what chose among several places

    @property
    def end(self) -> int:
        return (self.start or 0) + len(self.text)


@dataclass(frozen=True)
class Candidates:
    """Token windows of a translated context, as parallel arrays. first, last: token numbers, last excluded."""

    first: np.ndarray
    last: np.ndarray
    lexical: np.ndarray  # 0 to 1: reads like the isolated translation, or like the source
    overlap: np.ndarray  # 0 to 1: its words are the translations of the answer's words
    nearness: np.ndarray  # 0 to 1: stands where the answer stands in the source

    def scores(self) -> np.ndarray:
        return LEXICAL_WEIGHT * self.lexical**2 + ALIGNMENT_WEIGHT * self.overlap + POSITION_WEIGHT * self.nearness

    def best(self) -> int:
        """The highest score; ties go to more alignment, then nearer, then longer, then first."""
        shorter = self.first - self.last
        return int(np.lexsort((self.first, shorter, -self.nearness, -self.overlap, -self.scores().round(6)))[0])


def locate_literally(translation: Translation, answer: dict[str, Any]) -> Location:
    """The rule of the published Dutch set: the first place of the isolated translation, letter by letter."""
    isolated = usable_text(answer.get("iso_t"))
    if isolated is None:
        return Location(None, "", NOT_TRANSLATED)
    start = translation.target.find(isolated)
    return Location(start, isolated, "literal", 1.0) if start >= 0 else Location(None, "", NOT_LITERAL)


def source_offset(source: str, answer: dict[str, Any]) -> int | None:
    """Where the answer is in the source: at its offset, else at the occurrence nearest to it, else None."""
    text, start = answer["text"], answer["answer_start"]
    if not text.strip():
        return None
    if start >= 0 and source.startswith(text, start):
        return start
    places = [match.start() for match in re.finditer(re.escape(text), source)]
    return min(places, key=lambda place: abs(place - start), default=None)


def occurrences(words: list[str], wanted: list[str]) -> list[int]:
    """Where the list `wanted` stands in the list `words`."""
    length = len(wanted)
    places = range(len(words) - length + 1) if wanted else ()
    return [place for place in places if words[place] == wanted[0] and words[place : place + length] == wanted]


def windows(low: int, high: int, num_words: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(first, last) of all windows in tokens low..high whose length suits an answer and its isolated translation."""
    size = high - low
    shortest, longest = max(1, min(num_words) // 2), max(num_words) * 3 // 2 + 3
    lengths = np.arange(min(shortest, size), min(longest, size) + 1)
    first = np.concatenate([np.arange(low, high - length + 1) for length in lengths])
    return first, first + np.repeat(lengths, size - lengths + 1)


def lexical_similarity(
    texts: list[str], isolated: list[str], source: list[str], articles: frozenset[str]
) -> np.ndarray:
    """0 to 1 for each text (folded words): like the isolated translation, or like the source, as names are.

    articles: of the target language; "votes" alone may be translated as "de stemmen", in the sentence as "stemmen".
    """
    bare_source = without_article(source, SOURCE_ARTICLES)
    variants = {" ".join(isolated): 1.0, " ".join(source): SOURCE_KEPT, " ".join(bare_source): SOURCE_KEPT}
    if bare_source == source:
        variants.setdefault(" ".join(without_article(isolated, articles)), 1.0)
    best = np.zeros(len(texts), np.float32)
    for variant, factor in variants.items():
        if variant:
            same_order = process.cdist([variant], texts, scorer=fuzz.ratio)[0]
            any_order = process.cdist([variant], texts, scorer=fuzz.token_sort_ratio)[0]
            best = np.maximum(best, factor / 100 * np.maximum(same_order, REORDERED * any_order))
    return best


def overlap_with_alignment(first: np.ndarray, last: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Soft F1 of each window and the words aligned with the answer. weights: P(aligned), one a token."""
    sums = np.concatenate(([0.0], np.cumsum(weights, dtype=np.float64)))
    return 2 * (sums[last] - sums[first]) / (last - first + sums[-1])


def with_edges(target: str, span: Span, answer: str) -> Span:
    """The span with the quotes, brackets and full stops around it that the source answer has too."""
    start, end = span
    tokens = tokenize(answer)
    leading = {edge_kind(char) for char in answer[: tokens[0][0]]}
    trailing = {edge_kind(char) for char in answer[tokens[-1][1] :]}
    while start and edge_kind(target[start - 1]) in leading - {""}:
        start -= 1
    while end < len(target) and edge_kind(target[end]) in trailing - {""}:
        end += 1
    return start, end


def edge_kind(char: str) -> str:
    """The punctuation mark, one for all quotes; nothing for white space and what belongs to a word."""
    if char in QUOTES:
        return '"'
    return char if char in EDGES else ""


class Locator:
    """Finds the answers of one paragraph after the other: call open(translation), then locate(answer)."""

    def __init__(self, aligner: WordAligner, min_confidence: float):
        self.aligner = aligner
        self.min_confidence = min_confidence

    def open(self, translation: Translation) -> None:
        self.translation = translation
        self.tokens = tokenize(translation.target)
        self.starts = [start for start, _ in self.tokens]
        self.words = [fold(translation.target[start:end]) for start, end in self.tokens]
        self.posteriors: dict[tuple, np.ndarray] = {}  # of the sentences of this paragraph

    def locate(self, answer: dict[str, Any]) -> Location:
        """The best scored place of the answer in the current paragraph."""
        text, isolated = answer["text"], usable_text(answer.get("iso_t")) or ""
        start = source_offset(self.translation.source, answer)
        if start is None:
            return Location(None, "", BAD_OFFSET)
        spans = self.translation.spans_of(start, start + len(text))
        if spans is None:
            return Location(None, "", NO_SENTENCE)
        low, weights = self.align(spans, (start, start + len(text)))
        (source_start, source_end), (target_start, target_end) = spans
        expected = target_start + (start - source_start) / (source_end - source_start) * (target_end - target_start)
        if not len(weights) or not tokenize(text):
            return self.locate_symbol(isolated or text, expected, spans)
        candidates = self.candidates(low, weights, (fold_text(isolated), fold_text(text)), expected)
        return self.choose(candidates, (low, low + len(weights)), answer, spans)

    def align(self, spans: tuple[Span, Span], answer: Span) -> tuple[int, np.ndarray]:
        """(first token of the target sentence, P(it translates a word of the answer) for each of its tokens)."""
        source = tokenize(self.translation.source, *spans[0])
        low, high = (bisect_left(self.starts, place) for place in spans[1])
        inside = [number for number, (start, end) in enumerate(source) if start < answer[1] and answer[0] < end]
        if not inside or low == high:
            return low, np.zeros(high - low)
        first, last = crop(len(source), inside[0])
        shift, stop = crop(high - low, (high - low) * inside[0] // len(source))
        low, high = low + shift, low + stop
        key = spans, first, low
        if key not in self.posteriors:
            number = self.aligner.corpus.number
            left = number(self.translation.source, source[first:last])
            right = number(self.translation.target, self.tokens[low:high])
            self.posteriors[key] = self.aligner.posteriors(left, right)
        columns = [number - first for number in inside if number < last]
        return low, np.minimum(self.posteriors[key][:, columns].sum(axis=1), 1)

    def candidates(
        self, low: int, weights: np.ndarray, wanted: tuple[list[str], list[str]], expected: float
    ) -> Candidates:
        """Windows of the target sentence, and the isolated translation wherever it stands in the paragraph."""
        isolated, source = wanted
        high = low + len(weights)
        first, last = windows(low, high, (len(source), len(isolated) or len(source)))
        outside = [p for p in occurrences(self.words, isolated) if p < low or p + len(isolated) > high]
        first = np.concatenate((first, np.array(outside, np.int64)))
        last = np.concatenate((last, np.array(outside, np.int64) + len(isolated)))
        texts = [" ".join(self.words[a:b]) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        padded = np.zeros(len(self.words))
        padded[low:high] = weights
        distance = np.abs(np.array(self.starts)[first] - expected)
        return Candidates(
            first,
            last,
            lexical_similarity(texts, isolated, source, self.aligner.articles),
            overlap_with_alignment(first, last, padded),
            np.exp(-distance / POSITION_SCALE),
        )

    def choose(
        self, candidates: Candidates, sentence: Span, answer: dict[str, Any], spans: tuple[Span, Span]
    ) -> Location:
        """The best candidate as a Location, or none when its confidence is too low."""
        best = candidates.best()
        first, last = int(candidates.first[best]), int(candidates.last[best])
        target, isolated = self.translation.target, usable_text(answer.get("iso_t")) or ""
        start, end = with_edges(target, (self.starts[first], self.tokens[last - 1][1]), answer["text"])
        words, wanted, articles = self.words[first:last], fold_text(isolated), self.aligner.articles
        if first < sentence[0] or last > sentence[1]:
            strategy = "outside its sentence"
        elif target[start:end] == isolated:
            strategy = "letter by letter"
        elif words == wanted:
            strategy = "other spelling"
        elif without_article(words, articles) == without_article(wanted, articles):
            strategy = "other article"
        elif words == fold_text(answer["text"]):
            strategy = "source text kept"
        else:
            strategy = "similar words" if candidates.lexical[best] >= 0.8 else "word alignment"
        confidence = round(float(candidates.scores()[best]), 4)
        places = occurrences(self.words, wanted)
        resolved_by = resolution(candidates, best, places, sentence) if len(places) > 1 else ""
        if confidence < self.min_confidence:
            return Location(None, target[start:end], LOW_CONFIDENCE, confidence, spans, len(places))
        return Location(start, target[start:end], strategy, confidence, spans, len(places), resolved_by)

    def locate_symbol(self, text: str, expected: float, spans: tuple[Span, Span]) -> Location:
        """An answer without a word ("…", "→"), or without words to search in: its nearest literal occurrence."""
        places = [match.start() for match in re.finditer(re.escape(text), self.translation.target)]
        if not places:
            return Location(None, "", NO_PLACE, 0.0, spans)
        return Location(min(places, key=lambda place: abs(place - expected)), text, "symbol", 1.0, spans, len(places))


def crop(length: int, middle: int) -> Span:
    """At most MAX_SENTENCE_TOKENS of 0..length around `middle`: a page without a full stop is no sentence."""
    first = max(0, min(middle - MAX_SENTENCE_TOKENS // 2, length - MAX_SENTENCE_TOKENS))
    return first, min(length, first + MAX_SENTENCE_TOKENS)


def resolution(candidates: Candidates, best: int, places: list[int], sentence: Span) -> str:
    """What chose among the places where the isolated translation stands."""
    first = int(candidates.first[best])
    if first not in places:
        return "another wording won"
    inside = [place for place in places if sentence[0] <= place < sentence[1]]
    if inside == [first]:
        return "the sentence map"
    same = (candidates.last - candidates.first == candidates.last[best] - candidates.first[best]) & np.isin(
        candidates.first, inside
    )
    rivals = candidates.overlap[same & (candidates.first != first)]
    clear = len(rivals) and candidates.overlap[best] > rivals.max() + 0.05
    return "the word alignment" if clear else "the position"


# ---------------------------------------------------------------------------------------------------------------------
# Documents: from the translated file to plain SQuAD
# ---------------------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What became of one answer."""

    qid: str
    answer: dict[str, Any]
    translation: Translation
    location: Location
    literal: Location


@dataclass
class Result:
    """The cleaned document and all that the report needs."""

    document: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)  # of questions: "source answerable", "kept …", "literal …"
    faults: Counter = field(default_factory=Counter)  # of the input


def read_translation(paragraph: dict[str, Any], faults: Counter) -> Translation:
    """The paragraph in both languages with a sentence map, made here where the file has none."""
    source, target = paragraph["context"], usable_text(paragraph.get("context_t"))
    fault = "the context is not translated" if target is None else ""
    if is_echo(source, target):
        fault = "the translated context is the source again"
    if fault:
        faults[fault] += 1
        return Translation(source, "", [], fault)
    sentences = read_sentence_map(paragraph.get("sentences"), source, target)
    if sentences is None:
        missing = not paragraph.get("sentences")
        faults["no sentence map: made one" if missing else "a sentence map that does not fit: made another"] += 1
        sentences = align_sentences(source, target)
    for sentence in sentences:
        if sentence.target_start is not None:
            translated = target[sentence.target_start : sentence.target_end]
            faults["a sentence left in the source language"] += is_echo(
                source[sentence.start : sentence.end], translated
            )
    return Translation(source, target, sentences)


def read_corpus(document: dict[str, Any], translations: list[Translation]) -> Corpus:
    """Everything that is translated: sentences, questions, isolated answers."""
    corpus = Corpus()
    paragraphs = (paragraph for article in document["data"] for paragraph in article["paragraphs"])
    for paragraph, translation in zip(paragraphs, translations, strict=True):
        for start, end, target_start, target_end in translation.sentences:
            if target_start is not None:
                corpus.add(translation.source[start:end], translation.target[target_start:target_end])
        for qa in paragraph["qas"]:
            corpus.add(qa["question"], usable_text(qa.get("question_t")) or "")
            for answer in qa["answers"]:
                corpus.add(answer["text"], usable_text(answer.get("iso_t")) or "")
    return corpus


def clean(document: dict[str, Any], translations: list[Translation], locator: Locator | None) -> Result:
    """Locate every answer and build the plain document. Without a locator, by the published rule."""
    origin = {"translation": document["translation"]} if "translation" in document else {}  # for the model card
    result = Result({"version": document.get("version", "v2.0"), **origin, "data": []})
    numbered = iter(translations)
    with progress_bar(total=len(translations), unit="paragraph", desc="finding answers") as bar:
        for article in document["data"]:
            paragraphs = []
            for paragraph in article["paragraphs"]:
                translation = next(numbered)
                if locator:
                    locator.open(translation)
                questions = [clean_question(qa, translation, locator, result) for qa in paragraph["qas"]]
                questions = [question for question in questions if question]
                if questions:
                    paragraphs.append({"context": translation.target, "qas": questions})
                bar.update()
            if paragraphs:
                title = usable_text(article.get("title")) or ""
                result.document["data"].append({"title": title, "paragraphs": paragraphs})
    return result


def clean_question(
    qa: dict[str, Any], translation: Translation, locator: Locator | None, result: Result
) -> dict[str, Any] | None:
    """The plain SQuAD question, or None after it was noted in result.dropped."""
    kind = "unanswerable" if qa["is_impossible"] else "answerable"
    result.counts[f"source {kind}"] += 1
    question, fault = read_question(qa, translation)
    outcomes = []
    if not fault and not qa["is_impossible"]:
        for answer in qa["answers"]:
            note_answer_faults(answer, translation, result.faults)
            literal = locate_literally(translation, answer)
            location = locator.locate(answer) if locator else literal
            outcomes.append(Outcome(qa["id"], answer, translation, location, literal))
        result.outcomes.extend(outcomes)
        result.counts["literal answerable"] += any(o.literal.start is not None for o in outcomes)
        if all(o.location.start is None for o in outcomes):
            fault = outcomes[0].location.strategy if outcomes else NO_ANSWER
    if fault:
        result.dropped.append(describe_dropped(qa, fault, outcomes))
        return None
    result.counts[f"kept {kind}"] += 1
    result.counts["literal unanswerable"] += qa["is_impossible"]
    found = dict.fromkeys((o.location.start, o.location.text) for o in outcomes if o.location.start is not None)
    answers = [{"text": text, "answer_start": start} for start, text in found]
    return {"id": qa["id"], "question": question, "answers": answers, "is_impossible": qa["is_impossible"]}


def read_question(qa: dict[str, Any], translation: Translation) -> tuple[str | None, str]:
    """(the translated question, what keeps it or its context from being used)."""
    question = usable_text(qa.get("question_t"))
    if translation.fault or question is None:
        return question, translation.fault or "the question is not translated"
    return question, "the translated question is the source again" if is_echo(qa["question"], question) else ""


def note_answer_faults(answer: dict[str, Any], translation: Translation, faults: Counter) -> None:
    start = source_offset(translation.source, answer)
    if start is None:
        faults["an answer that is not in its source context"] += 1
    elif start != answer["answer_start"]:
        faults["an answer beside its offset: took the nearest place"] += 1
    if usable_text(answer.get("iso_t")) is None:
        faults["an answer without its isolated translation"] += 1


def describe_dropped(qa: dict[str, Any], fault: str, outcomes: list[Outcome]) -> dict[str, Any]:
    """A line of --dropped_file: the question, the reason, and for each answer the reason and the best guess."""
    answers = [
        {
            "text": outcome.answer["text"],
            "iso_t": usable_text(outcome.answer.get("iso_t")),
            "reason": outcome.location.strategy,
            "best_guess": outcome.location.text or None,
            "confidence": outcome.location.confidence,
        }
        for outcome in outcomes
    ]
    kind = {"is_impossible": qa["is_impossible"]}
    return {"id": qa["id"], "question": qa["question"], **kind, "reason": fault, "answers": answers}


# ---------------------------------------------------------------------------------------------------------------------
# The report
# ---------------------------------------------------------------------------------------------------------------------


def build_report(result: Result, input_file: str, output_file: str, method: str, min_confidence: float) -> dict:
    """All figures of a run, in the order in which they are printed. Holds no time or date: same input, same bytes."""
    located = [o for o in result.outcomes if o.location.start is not None]
    names = {"source": input_file, "kept": f"{output_file} ({method})", "literal": "kept by literal search"}
    answers_written = sum(len(qa["answers"]) for _, qa in iter_questions(result.document))
    return {
        "method": method,
        "min_confidence": min_confidence if method == "align" else None,
        "datasets": [
            {
                "dataset": name,
                "questions": sum(result.counts[f"{stage} {kind}"] for kind in ("answerable", "unanswerable")),
                "answerable": result.counts[f"{stage} answerable"],
                "unanswerable": result.counts[f"{stage} unanswerable"],
            }
            for stage, name in names.items()
        ],
        "answers": {"searched": len(result.outcomes), "located": len(located), "written": answers_written},
        "strategies": ordered(Counter(o.location.strategy for o in located)),
        "dropped": ordered(Counter(question["reason"] for question in result.dropped)),
        "answers_dropped": ordered(Counter(o.location.strategy for o in result.outcomes if o.location.start is None)),
        "input_faults": ordered(result.faults),
        "confidence": histogram([o.location.confidence for o in result.outcomes]),
        "literal": compare_literal(result.outcomes),
        "ambiguous": {
            "answers": sum(o.location.num_places > 1 for o in located),
            "resolved_by": ordered(Counter(o.location.resolved_by for o in located if o.location.resolved_by)),
        },
        "least_certain": [describe_sample(o) for o in least_certain(result.outcomes)],
    }


def ordered(counts: Counter) -> dict[str, int]:
    """The counts as a dict, largest first, without zeros."""
    return {key: count for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count}


def histogram(confidences: list[float]) -> dict[str, int]:
    """Number of answers in each tenth of the confidence, lowest first."""
    tenths = Counter(min(9, int(confidence * 10)) for confidence in confidences)
    return {f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}": tenths[tenth] for tenth in range(10)}


def compare_literal(outcomes: list[Outcome]) -> dict[str, int]:
    """What the published rule finds of the same answers, and how often that is not where the method finds them."""
    both = [o for o in outcomes if o.literal.start is not None and o.location.start is not None]
    elsewhere = sum(o.literal.end <= o.location.start or o.location.end <= o.literal.start for o in both)
    same = sum((o.literal.start, o.literal.text) == (o.location.start, o.location.text) for o in both)
    found = sum(o.literal.start is not None for o in outcomes)
    return {"found": found, "same_span": same, "overlapping": len(both) - same - elsewhere, "elsewhere": elsewhere}


def least_certain(outcomes: list[Outcome]) -> list[Outcome]:
    """The NUM_SAMPLES answers of lowest confidence, among those for which there was a sentence to search."""
    return heapq.nsmallest(
        NUM_SAMPLES, (o for o in outcomes if o.location.spans), key=lambda o: (o.location.confidence, o.qid)
    )


def describe_sample(outcome: Outcome) -> dict[str, Any]:
    location, translation = outcome.location, outcome.translation
    (start, end), (target_start, target_end) = location.spans
    return {
        "id": outcome.qid,
        "confidence": location.confidence,
        "answer": outcome.answer["text"],
        "iso_t": usable_text(outcome.answer.get("iso_t")),
        "found": location.text,
        "kept": location.start is not None,
        "strategy": location.strategy,
        "sentence": translation.source[start:end].strip(),
        "sentence_t": translation.target[target_start:target_end].strip(),
    }


def format_table(rows: list[dict[str, Any]]) -> str:
    """The table of the published set (Dataset | # Q&A), with its two kinds of questions."""
    kinds = ("questions", "answerable", "unanswerable")
    cells = [("Dataset", "# Q&A", "answerable", "unanswerable")]
    cells += [(row["dataset"], *(f"{row[kind]:,}" for kind in kinds)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return "\n".join([lines[0], "-|-".join("-" * width for width in widths), *lines[1:]])


def format_counts(title: str, counts: dict[str, int]) -> list[str]:
    return [title, *(f"{count:>9,}  {name}" for name, count in counts.items()), ""] if counts else []


def format_report(report: dict[str, Any]) -> str:
    """The report as text for people."""
    source, kept, literal = report["datasets"]
    answers, others = report["answers"], report["literal"]
    lines = [format_table(report["datasets"]), ""]
    for kind in ("answerable", "unanswerable"):
        share = f"{100 * kept[kind] / max(1, source[kind]):.1f} %"
        lines.append(f"kept {kept[kind]:,} of {source[kind]:,} {kind} questions ({share})")
    lines += [f"{answers['located']:,} of {answers['searched']:,} answers found; {answers['written']:,} different", ""]
    lines += format_counts("Answers found, by what matched:", report["strategies"])
    lines += format_counts("Questions dropped, by reason:", report["dropped"])
    lines += format_counts("Answers dropped, by reason:", report["answers_dropped"])
    lines += format_counts("Faults of the input:", report["input_faults"])
    if report["method"] == "literal":
        return "\n".join(lines).rstrip()
    lines += format_counts("Confidence of the answers:", report["confidence"])
    lines += [
        f"Literal search finds {others['found']:,} of the answers and keeps {literal['answerable']:,} questions; "
        f"{others['elsewhere']:,} of its places are elsewhere.",
        "",
    ]
    ambiguous = report["ambiguous"]
    lines += format_counts(
        f"{ambiguous['answers']:,} answers with several places, decided by:", ambiguous["resolved_by"]
    )
    lines += ["Least certain answers:"] if report["least_certain"] else []
    for sample in report["least_certain"]:
        mark = "" if sample["kept"] else " (dropped)"
        lines.append(
            f"    {sample['confidence']:.2f}  {sample['answer']!r} -> {sample['found']!r}{mark}  {sample['id']}"
        )
        lines += [f"          {sample['sentence']}", f"          {sample['sentence_t']}"]
    return "\n".join(lines).rstrip()


# ---------------------------------------------------------------------------------------------------------------------
# The script
# ---------------------------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data = parser.add_argument_group("data")
    data.add_argument("--input_file", required=True, help="file written by translate_squad.py")
    data.add_argument("--output_file", required=True, help="plain SQuAD file to write, in the target language")
    task = parser.add_argument_group("task")
    task.add_argument("--method", choices=METHODS, default="align", help="how answers are found (default: align)")
    task.add_argument(
        "--min_confidence",
        type=float,
        default=MIN_CONFIDENCE,
        help="drop answers below this, 0 to 1; raise it for fewer but surer answers (default: %(default)s; align only)",
    )
    output = parser.add_argument_group("output and logging")
    output.add_argument("--report_file", help="write the printed report here as JSON")
    output.add_argument("--dropped_file", help="write the dropped questions with their reasons here as JSON")
    return parser


def check_args(args: argparse.Namespace) -> list[str]:
    """Every fault of the command line."""
    faults: list[str] = []
    files = {"--input_file": args.input_file}
    for flag in ("--output_file", "--report_file", "--dropped_file"):
        path = getattr(args, flag[2:])
        if path:
            check_output_path(path, faults, flag)
            same = [other for other, name in files.items() if os.path.realpath(name) == os.path.realpath(path)]
            faults += [f"{flag} and {other} are the same file ({path}); name another" for other in same]
            files[flag] = path
    if not 0 <= args.min_confidence <= 1:
        faults.append(f"--min_confidence {args.min_confidence} is not a confidence; use 0 to 1")
    return faults


def train_aligner(document: dict[str, Any], translations: list[Translation]) -> WordAligner:
    """The word aligner of this file; says how much it had to learn from."""
    corpus = read_corpus(document, translations)
    logger.info("learning word translations from %s pairs, %s words", f"{len(corpus):,}", f"{len(corpus.vocabulary):,}")
    if len(corpus) < FEW_PAIRS:
        logger.warning(
            "%d translated pairs are few to learn from: answers are found mostly by spelling and position; "
            "clean all files of one translation together if you can",
            len(corpus),
        )
    return WordAligner(corpus)


@script_main
def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    setup_logging()
    exit_with_faults(parser, check_args(args))
    logger.info("command line: %s", " ".join(sys.argv if argv is None else ["clean_squad.py", *argv]))
    document = load_squad(args.input_file, answers_required=False, offsets_required=False)
    faults: Counter = Counter()
    paragraphs = [paragraph for article in document["data"] for paragraph in article["paragraphs"]]
    translations = [read_translation(paragraph, faults) for paragraph in paragraphs]
    if all(translation.fault for translation in translations):
        raise SquadError(f"{args.input_file}: no paragraph is translated (context_t); run translate_squad.py first")
    aligner = train_aligner(document, translations) if args.method == "align" else None
    result = clean(document, translations, Locator(aligner, args.min_confidence) if aligner else None)
    result.faults.update(faults)
    report = build_report(result, args.input_file, args.output_file, args.method, args.min_confidence)
    write_json(args.output_file, result.document, ensure_ascii=False)
    if args.dropped_file:
        write_json(args.dropped_file, result.dropped, ensure_ascii=False)
    if args.report_file:
        write_json(args.report_file, report, ensure_ascii=False)
    print(format_report(report))
    others = [path for path in (args.dropped_file, args.report_file) if path]
    logger.info(
        "wrote %s; next: python run_squad.py … --train_file %s",
        ", ".join([args.output_file, *others]),
        args.output_file,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
