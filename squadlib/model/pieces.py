"""Words and texts as the pieces of a tokenizer, in flat arrays."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from squadlib.data import Example

WORD = re.compile("[^ \t\r\n\u202f]+")  # the 2020 script splits contexts at these five characters and no other
WORD_CHUNK = 1024  # words or texts a call: bounds the memory of the Rust encodings, about 1 KiB each


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different length in one flat int32 array: row r is values[first[r]:first[r + 1]].

    first: int64 (rows + 1,).
    """

    values: np.ndarray
    first: np.ndarray

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.first[row] : self.first[row + 1]]

    def length(self, row: int) -> int:
        return int(self.first[row + 1] - self.first[row])


@dataclass(frozen=True, eq=False)
class ContextPieces(Ragged):
    """One row a context. word: int32, the number of the word that each piece belongs to, -1 for none."""

    word: np.ndarray

    def words_of(self, row: int) -> np.ndarray:
        return self.word[self.first[row] : self.first[row + 1]]


@dataclass(frozen=True, eq=False)
class TokenisedExamples:
    """The pieces of each distinct context and question once, and which of them an example has.

    examples: the questions, in file order. context_row, question_row: int32 (E,), rows of `contexts` and `questions`.
    """

    examples: list[Example]
    contexts: ContextPieces
    questions: Ragged
    context_row: np.ndarray
    question_row: np.ndarray


def tokenise(examples: list[Example], table: PieceTable, max_query_length: int) -> TokenisedExamples:
    """The pieces of all examples, word by word as the 2020 script made them."""
    contexts, context_row = distinct(example.context for example in examples)
    questions, question_row = distinct(example.question for example in examples)
    pieces = table.contexts(contexts), table.questions(questions, max_query_length)
    return TokenisedExamples(examples, *pieces, context_row, question_row)


def distinct(texts: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """(the different texts in order of first use, int32 row of each text among them)."""
    rows: dict[str, int] = {}
    index = np.fromiter((rows.setdefault(text, len(rows)) for text in texts), np.int32)
    return list(rows), index


def clean_word(word: str) -> str:
    """The word as the 2020 tokenizer saw it: control characters removed, then NFC, which the fast tokenizers skip."""
    if word.isascii():
        return word
    kept = "".join(c for c in word if c.isspace() or not unicodedata.category(c).startswith("C"))
    return unicodedata.normalize("NFC", kept)


class PieceTable:
    """Pieces of words and texts. Every distinct word of the data goes through the tokenizer once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.backend = tokenizer.backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        # WordPiece splits at whitespace before anything else, so a text is its words; other kinds see whole questions.
        self.by_word = type(self.backend.model).__name__ == "WordPiece"
        # A byte-level tokenizer marks the space before a word; inside a context every word has one (2020's choice).
        byte_level = "ByteLevel" in str(self.backend.pre_tokenizer)
        self.word_prefix = " " if byte_level else ""

        self.word_index: dict[str, int] = {}
        self.pieces = np.zeros(0, np.int32)  # of all words of word_index, end to end
        self.num_pieces = np.zeros(0, np.int64)  # how many each word has

    def contexts(self, texts: list[str]) -> ContextPieces:
        """One row a text: the pieces of its words, with the word index of each piece."""
        index = self.word_index
        rows = [[index.setdefault(word, len(index)) for word in WORD.findall(text)] for text in texts]
        self._tokenise_new_words()
        word_ids = np.fromiter(itertools.chain.from_iterable(rows), np.int32)
        return gather_rows(self.pieces, self.num_pieces, word_ids, row_starts(map(len, rows)))

    def texts(self, texts: list[str]) -> Ragged:
        """One row a text, tokenised as a text of its own (questions, answers)."""
        if self.by_word:
            return self.contexts(texts)
        return ragged(self._encode([clean_word(text) for text in texts]))

    def _tokenise_new_words(self) -> None:
        new = itertools.islice(self.word_index, len(self.num_pieces), None)
        words = [self.word_prefix + clean_word(word) for word in new]
        pieces, sizes = [self.pieces], [self.num_pieces]
        for first in range(0, len(words), WORD_CHUNK):
            chunk = words[first : first + WORD_CHUNK]
            if self.by_word:  # as one list of words: a fifth of the time of one call a word
                encoded = self.backend.encode(chunk, is_pretokenized=True, add_special_tokens=False)
                pieces.append(np.array(encoded.ids, np.int32))
                sizes.append(np.bincount(np.array(encoded.word_ids, np.int64), minlength=len(chunk)))
            else:
                rows = ragged(self._encode(chunk))
                pieces.append(rows.values)
                sizes.append(np.diff(rows.first))
        self.pieces, self.num_pieces = np.concatenate(pieces), np.concatenate(sizes)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        """Piece ids of each text, no special tokens added."""
        rows: list[list[int]] = []
        for first in range(0, len(texts), WORD_CHUNK):
            chunk = texts[first : first + WORD_CHUNK]
            rows += [e.ids for e in self.backend.encode_batch_fast(chunk, add_special_tokens=False)]
        return rows

    def places(self, word: str) -> list[tuple[int, int]]:
        """First character and end of each piece of a context word."""
        shift = len(self.word_prefix)
        encoding = self.backend.encode(self.word_prefix + clean_word(word), add_special_tokens=False)
        return [(first - shift, end - shift) for first, end in encoding.offsets]

    def questions(self, texts: list[str], max_query_length: int) -> Ragged:
        """Questions cut to max_query_length pieces."""
        whole = self.texts(texts)
        size = np.diff(whole.first)
        keep = np.arange(len(whole.values)) - np.repeat(whole.first[:-1], size) < max_query_length
        return Ragged(whole.values[keep], row_starts(np.minimum(size, max_query_length)))


def ragged(rows: list[list[int]]) -> Ragged:
    return Ragged(np.fromiter(itertools.chain.from_iterable(rows), np.int32), row_starts(map(len, rows)))


def row_starts(lengths: Iterable[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)


def gather_rows(values: np.ndarray, size: np.ndarray, word_ids: np.ndarray, first_word: np.ndarray) -> ContextPieces:
    """Replace each word id by its pieces. values: pieces of all distinct words end to end; size: how many each has."""
    offset = np.cumsum(size) - size
    counts = size[word_ids]
    end = np.cumsum(counts)
    position = np.arange(end[-1] if len(end) else 0, dtype=np.int32)
    pieces = values[np.repeat((offset[word_ids] - (end - counts)).astype(np.int32), counts) + position]
    first = np.concatenate([[0], end])[first_word]
    word_in_row = np.arange(len(word_ids)) - np.repeat(first_word[:-1], np.diff(first_word))
    return ContextPieces(pieces, first, np.repeat(word_in_row.astype(np.int32), counts))
