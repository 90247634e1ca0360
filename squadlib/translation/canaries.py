"""Control sentences: they show when a server answers nonsense, and vouch for the answers that came with them."""

from __future__ import annotations

import difflib
import re

from squadlib.console import SquadError
from squadlib.translation.cache import Cache
from squadlib.translation.checks import translation_fault
from squadlib.translation.engines import Fault
from squadlib.translation.line_order import latin_digits

MAX_REFUSALS = 8  # of the canaries, in a row
SAME_TEXT = 0.6  # similarity of a canary's translation to the one of before; a reworded sentence stays above it
CANARY_EVERY = 50  # strings that travel without a canary line, until the canaries are asked on their own
MAX_LOST_LINES = 3  # times in a row that the canaries come back with another number of lines
CANARIES = [  # English sentences whose translation is known after the first request; the year must survive
    "The bridge over the river was built in 1893.",
    "In 1928 a young teacher wrote down every song.",
    "Nobody was hurt when the old mill burned in 1957.",
]


def choose_canaries(source_lang: str, strings: list[str]) -> list[str]:
    """Control sentences in the source language: for another than English, three of middling length of the file."""
    if source_lang == "en":
        return CANARIES
    return sorted(set(strings), key=lambda string: (abs(len(string) - 60), string))[:3]


class Canaries:
    """What the control sentences tell about a server, and which stored answers nobody has vouched for yet.

    A request carries one as its last line, so its answer vouches for itself and for all before it. A bare request does
    not: a text that fails in company, and every text where a request is one string or the server does not keep line
    breaks. What bare requests brought is `unvouched` until a sentence comes back well, and withdrawn when one comes
    back wrong. Where all requests are bare, a sentence is asked beside them now and then.
    """

    def __init__(self, sentences: list[str], cache: Cache, *, travel: bool = True) -> None:
        self.sentences, self.cache = sentences, cache
        self.targets = cache.get(sentences)  # known translations
        self.unvouched: list[str] = []  # in the cache, or given up, after bare requests
        self.lone_on_its_way = False  # a sentence beside bare requests
        self.in_doubt = False  # bare requests wait until the sentences are well again
        self.lost_lines = 0 if travel else MAX_LOST_LINES
        self.refusals = 0  # rounds in a row

    @property
    def keeps_lines(self) -> bool:
        """Whether the server answers line by line, as far as is known."""
        return self.lost_lines < MAX_LOST_LINES

    def requests(self) -> list[list[str]]:
        """The requests that ask the sentences by themselves."""
        return [self.sentences] if self.keeps_lines else [[sentence] for sentence in self.sentences]

    def are_due(self, *, at_end: bool) -> bool:
        """Whether they must be asked by themselves before anything else is."""
        many = self.keeps_lines and len(self.unvouched) >= CANARY_EVERY
        return self.in_doubt or many or (bool(self.unvouched) and at_end)

    def is_lone_due(self) -> bool:
        """Whether one sentence must be asked beside bare requests, which need not wait for it."""
        return not self.keeps_lines and not self.lone_on_its_way and len(self.unvouched) >= CANARY_EVERY

    def fault(self, targets: dict[str, str]) -> str | None:
        """Why these translations of the sentences show nonsense; learns them and returns None when they do not."""
        for sentence, target in targets.items():
            if fault := canary_fault(sentence, target, self.targets.get(sentence), self.cache.target_lang):
                return fault
        if len(targets) > 1 and len(set(targets.values())) == 1:
            return "nonsense: every control sentence has the same translation"
        if new := {sentence: target for sentence, target in targets.items() if sentence not in self.targets}:
            self.cache.put(new)
            self.targets |= new
        return None

    def refused(self, fault: Fault) -> None:
        """A server that takes one string a request is well and does not translate them: waiting mends nothing."""
        self.refusals += 1
        if self.refusals >= MAX_REFUSALS:
            reason = f'a control sentence ("{self.sentences[0]}" or another) is not translated ({fault})'
            raise SquadError(f"{reason}; try another model, prompt or request field")

    def vouch(self) -> None:
        """A sentence came back well: so far the server tells no nonsense."""
        self.unvouched.clear()

    def are_well(self) -> None:
        """All of them came back well, asked by themselves."""
        self.vouch()
        self.in_doubt = False
        self.refusals = 0
        if self.keeps_lines:
            self.lost_lines = 0

    def withdraw(self) -> list[str]:
        """They are not well: the strings whose stored answers are forgotten, to be asked again."""
        self.in_doubt = not self.keeps_lines
        doubtful, self.unvouched = self.unvouched, []
        self.cache.forget(doubtful)
        return doubtful


def canary_fault(source: str, target: str, before: str | None, target_lang: str) -> str | None:
    """Why the translation of a canary shows that the server answers nonsense; None when it does not."""
    fault = translation_fault(source, target, target_lang, may_be_cut=True)
    if not fault and not set(re.findall(r"\d{4}", source)) <= set(re.findall(r"\d{4}", latin_digits(target))):
        fault = "the year is lost"
    if not fault and before and similarity(before, target) < SAME_TEXT:
        fault = f'"{target[:60]}", before it was "{before[:60]}"'
    return fault and f'nonsense: the control sentence "{source}" came back wrong ({fault})'


def similarity(left: str, right: str) -> float:
    """Share of characters in common, 0 to 1."""
    return difflib.SequenceMatcher(None, left, right, autojunk=False).ratio()
