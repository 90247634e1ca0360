"""Write the small texts that the golden files are made from: nasty but legal SQuAD 2.0, and texts legacy gets wrong.

    python tests/golden/make_mini_squad.py

Writes, beside itself: mini_squad.json (used by make_legacy_golden.py and make_training_golden.py), quirks_squad.json
(texts on which the 2020 code is known to be wrong: no golden holds them, tests say what should happen) and
tiny_bert/vocab.txt (a cased WordPiece vocabulary of the mini texts). The texts were written for this project.
Characters outside ASCII are written as escapes in the JSON, so that no editor can normalise them.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORD_PIECES = 150  # whole words in the vocabulary, by frequency; the rest is spelled out
UNKNOWN_EVERY = 9  # one character in nine is left out, so that [UNK] turns up in every script

LONG_CONTEXT = (
    "Before the dike was closed the village lived from herring, and every child could name the boats. The harbour "
    "master, an old man called Wessel van der Meer, kept a list of them in a green book: the names, the owners, the "
    "year of building and the day on which a boat had not come back. When the sea became a lake, the herring went, "
    "and so did the buyers from Hamburg, Hull and Dieppe. Some families moved to the new land, where they learned to "
    "grow flax, rape seed and, later, tulips; others stayed and caught eel. Wessel van der Meer went on writing. On "
    "the last page of the green book stands a single line, dated 14 February 1953, in a hand that hardly shakes: "
    "'No boats. Ice.' His granddaughter gave the book to the museum in 1988, together with his cap, his pipe and the "
    "brass key of a harbour office that had been pulled down nineteen years before. The museum shows the key upside "
    "down, because nobody remembers which end was held; the book lies open at the last page, under glass, and each "
    "winter somebody asks whether it could be turned back to the page of the boats."
)

# (context, [(question, answers or None for an unanswerable one, extra keys)]).
# An answer is its text (first place in the context), or (text, answer_start) to say the place.
PARAGRAPHS = [
    # Punctuation glued to words; answers that are parts of words, or start at the blank before them.
    (
        "The mill \"De Hoop\" (built in 1740) was Jan's family's pride; they'd sold it—reluctantly—for "
        "3,500 guilders, i.e. $1.2m/€1.1m today. Who's the owner now?Nobody's sure...",
        [
            ("When was the mill built?", ["1740", "in 1740", "(built in 1740)"]),
            ("Whose pride was it?", ["Jan's family", "Jan"]),
            ("How did they sell it?", ["reluctantly"]),
            ("What did the mill cost?", ["3,500 guilders", "3,500 guild", "3,500"]),
            ("What is it worth in euros?", ["€1.1m"]),
            ("Who is sure of the owner?", ["Nobody"]),
            ("Which name did the mill have?", [' "De Hoop"', "De Hoop"]),
            ("Who bought the mill?", None, {"plausible_answers": [("Jan's family", 39)]}),
        ],
    ),
    # The same words composed (NFC) and decomposed (NFD).
    (
        "Café René in Curaçao serves crème brûlée. Cafe\u0301 Rene\u0301e in Cu\u0301cuta serves "
        "cre\u0300me fra\u0131\u0302che. The ångström (A\u030angstro\u0308m) is a unit; "
        "naïve coöperatieën, İstanbul, Straße, ﬁn, Ĳsland.",
        [
            ("Where is Café René?", ["Curaçao"]),
            ("Where is Cafe\u0301 Rene\u0301e?", ["Cu\u0301cuta"]),
            ("What does Café René serve?", ["crème brûlée"]),
            ("What does Cafe\u0301 Rene\u0301e serve?", ["cre\u0300me fra\u0131\u0302che"]),
            ("How is ångström also written?", ["A\u030angstro\u0308m"]),
            ("Which city is named?", ["İstanbul"]),
            ("Who owns Café René?", None),
        ],
    ),
    # Chinese and Japanese: no blanks, so that a whole sentence is one word of the context.
    (
        "代尔夫特是荷兰的城市。人口约10万。 Delftはオランダの町で、青い陶器で知られる。 ＡＢＣ 1653年",
        [
            ("代尔夫特在哪里？", ["荷兰"]),
            ("人口多少？", ["约10万", "10万"]),
            ("What is Delft known for?", ["青い陶器", "陶器"]),
            ("Which year is named?", ["1653年", "1653"]),
        ],
    ),
    # Hindi with ZWJ, Arabic with vowel signs, Persian with ZWNJ, Hebrew.
    (
        "हेग नीदरलैंड का शहर है। राज\u094d\u200dय बड\u093cा है। م\u064eد\u0650ينة لاهاي، هولندا؟ می\u200cروم. האג היא עיר.",
        [
            ("हेग कहाँ है?", ["नीदरलैंड"]),
            ("What is big?", ["राज\u094d\u200dय"]),
            ("ما هي?", ["م\u064eد\u0650ينة لاهاي"]),
            ("Which word has a joiner?", ["می\u200cروم"]),
        ],
    ),
    # Greek capitals (a final sigma has its own small letter), Cyrillic, Thai without blanks.
    (
        "Η Χάγη, ΟΔΟΣ ΝΟΤΟΣ; Ο Οδυσσεύς. Йоганн Ёлкин жил в «Гааге». กรุงเฮกเป็นเมือง 1248 ปี",
        [
            ("Which street?", ["ΟΔΟΣ ΝΟΤΟΣ"]),
            ("Who is the hero?", ["Οδυσσεύς"]),
            ("Кто жил?", ["Йоганн Ёлкин"]),
            ("Где?", ["Гааге"]),
            ("Thai?", ["กรุงเฮก"]),
        ],
    ),
    # White space of every kind the 2020 code splits at, at the edges too; NBSP only inside a word and outside answers.
    (
        "  The\ttrain  leaves at\u202f7.15\r\nfrom platform\n\n4b.\tIt takes 1\u202fhour  and 20\u00a0minutes to "
        "Goes ,\r\n a  town in Zeeland . \n",
        [
            ("What leaves?", ["The\ttrain", "train"]),
            ("When does it leave?", ["7.15"]),
            ("From where?", ["platform\n\n4b"]),
            ("How long does it take?", ["1\u202fhour  and 20", "1\u202fhour"]),
            ("Where is Goes?", ["Zeeland"]),
            ("  How much is the ticket ?\n", None),
        ],
    ),
    # Emoji with joiners and skin tones, control and invisible characters, characters outside the basic plane.
    (
        "Today: 😀👨\u200d👩\u200d👧 and 👍\U0001f3fd… bell\x07 rings; "
        "soft\u00adhyphen, zero\u200bwidth, \ufeffbom, \ufffd, 𠀀𝔸! 🇳🇱 end \x01\x02 tail",
        [
            ("What rings?", ["bell\x07", "bell"]),
            ("Which family?", ["👨\u200d👩\u200d👧"]),
            ("Which has a hyphen?", ["soft\u00adhyphen"]),
            ("Which letter is rare?", ["𝔸"]),
            ("What comes last?", ["tail"]),
        ],
    ),
    # Words of 60, 101 and 26 letters; only a word of at most 100 letters is spelled out.
    (
        "Say " + "abcdefghij" * 6 + " or " + "x" * 101 + " or hottentottententententoonstelling, said Piet.",
        [
            ("What is long?", ["abcdefghij" * 6]),
            ("What is longer?", ["x" * 101]),
            ("What did Piet say?", ["hottentottententententoonstelling"]),
        ],
    ),
    # Many windows: answers at the start, at the end and across the border of windows; a text that occurs twice.
    (
        LONG_CONTEXT,
        [
            ("Before what?", ["Before the dike was closed", "Before the dike"]),
            ("Who wrote?", [("Wessel van der Meer", LONG_CONTEXT.rindex("Wessel"))]),
            (
                "What was in the list?",
                [
                    "the names, the owners, the year of building and the day on which a boat had not come back",
                    "the names",
                ],
            ),
            ("What does the last line say?", ["'No boats. Ice.'", "No boats. Ice."]),
            ("What is asked?", ["whether it could be turned back to the page of the boats"]),
            ("Why is the key upside down?", ["nobody remembers which end was held"]),
            ("Who pulled the office down?", None),
            # The offset names another word: 2020 drops this question from training, with a count.
            ("When did the museum get the book?", [("1988", 12)]),
        ],
    ),
    # The answer is the whole context.
    ("Sneek", [("Where?", ["Sneek"]), ("Who?", None)]),
    # Questions longer than any max_query_length, or made of signs only.
    (
        "The bridge opens at ten, at noon and at four. It is painted blue and white.",
        [
            (
                "If a skipper who left Sneek in the morning, with a load of bricks for a church in Lemmer, and who "
                "does not know the lakes, arrives at the bridge after ten and wants to be in Lemmer before the "
                "evening, at which hours of the day can he hope that the bridge, which is painted, will open for his "
                "boat?",
                ["at noon and at four", "noon"],
            ),
            ("???", ["ten"]),
            ("Colour…?!", ["blue and white", "blue"]),
        ],
    ),
    # Alignment of word pieces with the words: repeated pieces, brackets, a sign that BERT splits off.
    (
        "(((A-1)))  A 1 a1 A-1: 50% of $5 is $2.50; e-mail me@x.nl #1 *** ~ ^ `A-1` A_1",
        [
            ("Which code?", ["A-1"]),
            ("What is half of it?", ["$2.50"]),
            ("Which address?", ["me@x.nl"]),
            ("Last code?", ["A_1"]),
        ],
    ),
]

# Texts on which transformers 4.57.6 loses or breaks something. No golden holds them.
QUIRKS = [
    # A non-breaking or an ideographic space in the answer: 2020 drops the question from training.
    ("The tower is 112\u00a0metres high.", [("How high is it?", ["112\u00a0metres"])]),
    ("高さ 112\u3000m です", [("高さ?", ["112\u3000m"])]),
    # A context without a word: 2020 gives every later question the answer of its neighbour.
    (" \n\t ", [("Is there anything here?", None)]),
    ("", [("Is there anything at all?", None)]),
    # The names of special tokens as text: 2020 takes them for special tokens, and [PAD] cuts the window there.
    (
        "BERT fills up with [PAD] and ends with [SEP] after a [MASK] or [CLS].",
        [("What fills up?", ["[PAD]"]), ("What ends a [SEP] window?", ["[SEP]"]), ("Which comes last?", ["[CLS]"])],
    ),
    # A question without a word: 2020 crashes.
    ("Nobody asked.", [("", None), (" ", None), ("\u200b", None)]),
    # An answer that is no piece at all once the control characters are gone.
    ("It rang \x07 twice.", [("What sign?", ["\x07"]), ("How often?", ["twice"])]),
]


def build(name: str, paragraphs: list) -> dict:
    """The SQuAD 2.0 document of `paragraphs`; ids are `<name>-<paragraph>-<question>`, counted from 1."""
    data = [{"title": name, "paragraphs": []}]
    for p, (context, questions) in enumerate(paragraphs, 1):
        qas = []
        for q, (question, answers, *extra) in enumerate(questions, 1):
            qas.append({"id": f"{name}-{p}-{q}", "question": question, "is_impossible": answers is None})
            qas[-1]["answers"] = [place_answer(context, answer) for answer in answers or []]
            for key, values in (extra[0] if extra else {}).items():
                qas[-1][key] = [place_answer(context, answer) for answer in values]
        data[0]["paragraphs"].append({"context": context, "qas": qas})
    return {"version": "v2.0", "data": data}


def place_answer(context: str, answer: str | tuple[str, int]) -> dict:
    text, start = (answer, context.index(answer)) if isinstance(answer, str) else answer
    return {"text": text, "answer_start": start}


def make_vocab(document: dict) -> list[str]:
    """A cased WordPiece vocabulary: special tokens, frequent words, then most characters alone and as `##` pieces."""
    texts = []
    for paragraph in document["data"][0]["paragraphs"]:
        texts += [paragraph["context"], *(qa["question"] for qa in paragraph["qas"])]
    text = unicodedata.normalize("NFC", " ".join(texts))
    text += " " + strip_accents(text.lower())  # the pieces that --do_lower_case meets
    words = Counter(word for word in "".join(c if c.isalnum() else " " for c in text).split() if word.isascii())
    frequent = [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0])) if len(word) > 1]
    characters = sorted({c for c in text if c.isprintable() and not c.isspace()})
    characters = [c for i, c in enumerate(characters) if c.isascii() or i % UNKNOWN_EVERY]
    endings = ["##" + c for c in characters if c.isalnum() or unicodedata.category(c).startswith("M")]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # "##ing": the longest piece must win over its letters
    return [*special, *characters, *endings, "##ing", "##en", *frequent[:WORD_PIECES]]


def strip_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


def main() -> None:
    mini = build("mini", PARAGRAPHS)
    for name, document in ("mini_squad.json", mini), ("quirks_squad.json", build("quirk", QUIRKS)):
        (HERE / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8", newline="\n")
    (HERE / "tiny_bert").mkdir(exist_ok=True)
    vocab = "".join(piece + "\n" for piece in make_vocab(mini))
    (HERE / "tiny_bert" / "vocab.txt").write_text(vocab, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
