"""From pieces back to the text of an answer."""

from __future__ import annotations

import bisect
import functools
import itertools
import unicodedata
from collections.abc import Callable
from typing import cast

from tokenizers import normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from squadlib.model.pieces import clean_word
from squadlib.model.windows import Windows


class AnswerText:
    """Cuts answer texts out of the original words.

    Word pieces are realigned with the words through a basic tokenisation, as in the 2020 script; where that fails the
    answer is the whole words. Other tokenizers: the decoded pieces where they stand in the words, else the words.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, do_lower_case: bool) -> None:
        self.backend = tokenizer.backend_tokenizer
        self.word_pieces = type(self.backend.model).__name__ == "WordPiece"
        self.normalizer = normalizers.BertNormalizer(lowercase=do_lower_case)
        self.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.lower = do_lower_case
        self.piece = cast(Callable[[int], str], functools.lru_cache(None)(self.backend.id_to_token))
        self.basic = functools.lru_cache(1 << 16)(self._basic)
        self._contexts: dict[int, ContextText] = {}  # of one context at a time

    def context(self, windows: Windows, example: int) -> ContextText:
        """The whole context of an example; kept while the context is the same."""
        row = int(windows.context_row[example])
        if row not in self._contexts:
            pieces = list(map(self.piece, windows.contexts[row].tolist()))
            words = windows.words(example)
            basic = list(map(self.basic, words)) if self.word_pieces else []
            self._contexts = {row: ContextText(words, pieces, windows.contexts.words_of(row).tolist(), basic)}
        return self._contexts[row]

    def cut(self, context: ContextText, first: int, last: int) -> str:
        """The answer that pieces first..last (inclusive) stand for."""
        word = context.word
        first_word, last_word = word[first], word[last]
        text = " ".join(context.words[first_word : last_word + 1])
        starts_word = first == 0 or word[first - 1] != first_word
        if starts_word and (last + 1 == len(word) or word[last + 1] != last_word):
            return text  # whole words need no realignment
        tokens = context.pieces[first : last + 1]
        if self.word_pieces:
            return context.realign(" ".join(tokens).replace(" ##", "").strip(), text, first_word, last_word)
        return self._find(self.backend.decoder.decode(tokens).strip(), text)

    def _basic(self, word: str) -> str:
        """The basic tokens of a word, joined by spaces: `(1895` -> `( 1895`."""
        if word.isascii() and word.isalnum():
            return word.lower() if self.lower else word
        clean = clean_word(word)
        # The 2020 realignment lower-cased whole words, with a final sigma in Greek; the word pieces have none.
        normal = self.normalizer.normalize_str(clean.lower() if self.lower else clean)
        return " ".join(token for token, _ in self.pre_tokenizer.pre_tokenize_str(normal))

    def _find(self, decoded: str, text: str) -> str:
        """The part of `text` that reads as `decoded` but for case and accents: `muller`, `Müller,` -> `Müller`."""
        if decoded and decoded in text:
            return decoded
        folded, wanted = [_fold(c) for c in text], "".join(map(_fold, decoded))
        begin = "".join(folded).find(wanted)
        if begin < 0 or not wanted:
            return text
        place = [i for i, part in enumerate(folded) for _ in part] + [len(text)]
        return text[place[begin] : place[begin + len(wanted)]]


def _fold(character: str) -> str:
    """Lower case without accents, as uncased tokenizers write it; "" for a combining accent."""
    return "".join(c for c in unicodedata.normalize("NFKD", character).lower() if not unicodedata.combining(c))


class ContextText:
    """A context as words and pieces. basic: of each word the basic tokens, joined by spaces; [] without word pieces."""

    def __init__(self, words: list[str], pieces: list[str], word: list[int], basic: list[str]) -> None:
        self.words, self.pieces, self.word, self.basic = words, pieces, word, basic  # word: of each piece
        self.letters = list(itertools.accumulate(map(len, words), initial=0))  # characters before each word
        self.basic_letters = list(itertools.accumulate((len(b) - b.count(" ") for b in basic), initial=0))

    def realign(self, piece_text: str, text: str, first: int, last: int) -> str:
        """The part of `text`, words first..last, that `piece_text` is: `steve smith`, `Steve Smith's` -> `Steve Smith`.

        Place for place, letters that are no space correspond; where their number differs it is the whole text.
        """
        basic = " ".join(filter(None, self.basic[first : last + 1]))
        begin = basic.find(piece_text)
        num_letters = self.letters[last + 1] - self.letters[first]
        if begin < 0 or not piece_text or num_letters != self.basic_letters[last + 1] - self.basic_letters[first]:
            return text
        end = begin + len(piece_text) - 1
        begin, end = (self._place(place - basic.count(" ", 0, place), first) for place in (begin, end))
        return text[begin : end + 1]

    def _place(self, number: int, first: int) -> int:
        """Position of the number-th character that is no space in the words from `first` on, joined by spaces."""
        return number + bisect.bisect_right(self.letters, self.letters[first] + number) - 1 - first


def lower_cases(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer lower-cases, read off what it does."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("A").strip() == "a"
