"""Answering questions: the question-answering pipeline that transformers 5 no longer has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from tokenizers import Encoding
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from squadlib.console import SquadError, logger
from squadlib.data import Example
from squadlib.files import refuse_half_pair
from squadlib.model.answer_spans import best_spans, characters, probabilities
from squadlib.model.calibration import Calibration, load_calibration
from squadlib.model.layout import LONGEST, WindowModel
from squadlib.model.loading import load_config, load_model, load_tokenizer, num_positions
from squadlib.model.pieces import ContextPieces, TokenisedExamples, distinct, ragged
from squadlib.model.prediction import predict_logits
from squadlib.model.template import PairTemplate, pair_template
from squadlib.model.windows import Windows, context_room, cut_windows

ANSWER_BLOCK = 256  # questions whose logits are held at a time
NUMBERS = ("top_k", "max_answer_len", "doc_stride", "window_step", "max_seq_len", "max_question_len", "batch_size")
SMALLEST = 1e-300
PADDING = (None, True, False, "longest", "max_length", "do_not_pad")


class AnswerOptions(NamedTuple):
    """Options of `pipeline` and of each call, under transformers 4's names and with its defaults. Lengths: tokens."""

    top_k: int = 1
    max_answer_len: int = 15
    handle_impossible_answer: bool = False  # whether "" may be the answer
    align_to_words: bool = True  # widen answers to whole words
    doc_stride: int = 128  # shared by neighbouring windows (default: at most half a window)
    window_step: int | None = None  # from one window to the next; takes the place of doc_stride (not in transformers)
    max_seq_len: int = 384  # of a window (default: at most what the model takes)
    max_question_len: int | None = None  # longer questions are cut (transformers 4 knew 64 and cut none)
    batch_size: int = 4  # windows (default: 32 on a GPU)
    padding: bool | str | None = None  # taken as in transformers 4; no answer hangs on it


class Answer(TypedDict):
    """What transformers' pipeline returns: the probability, the characters [start, end) of the context, their text."""

    score: float
    start: int
    end: int
    answer: str


class Found(NamedTuple):
    """What was found for a question. answers: by their text in lower case, with the sums of their spans' scores.

    spans: of each answer the window and the first and last piece, where -1 is [CLS]. logits: of each window start and
    end, of [CLS] and the pieces of the context. null_score: of no answer.
    """

    answers: dict[str, Answer]
    spans: dict[str, list[tuple[int, int, int]]]
    logits: list[tuple[np.ndarray, np.ndarray]]
    null_score: float

    @property
    def best(self) -> str:
        """Text of the answer with the highest score, "" where there is none."""
        best = max(self.answers.values(), key=lambda answer: answer["score"], default=None)
        return best["answer"] if best else ""

    @property
    def null_odds(self) -> float:
        """Logarithm of the score of no answer, less that of the best answer; a score of 0 counts as the smallest."""
        best = max((answer["score"] for answer in self.answers.values()), default=0.0)
        return math.log(max(self.null_score, SMALLEST)) - math.log(max(best, SMALLEST))

    def ranked(self, may_be_empty: bool, null_threshold: float = 0.0) -> list[Answer]:
        """All answers, the best one first. may_be_empty: no answer, "", is among them."""
        answers = list(self.answers.values())
        weight = math.exp(-null_threshold) if null_threshold else 1.0
        scores = [answer["score"] for answer in answers]
        if may_be_empty or not answers:
            score = self.null_score if may_be_empty else 0.0
            answers.append({"score": score, "start": 0, "end": 0, "answer": ""})
            scores.append(score * weight)
        return [answers[place] for place in sorted(range(len(answers)), key=lambda place: -scores[place])]

    def top(self, settings: AnswerOptions, calibration: Calibration | None) -> list[Answer]:
        """The top_k answers, with the scores of the calibration where there is one."""
        if calibration is None:
            return self.ranked(settings.handle_impossible_answer)[: settings.top_k]
        answers = self.ranked(settings.handle_impossible_answer, calibration.null_threshold)[: settings.top_k]
        return [{**answer, "score": self.score(answer["answer"], calibration.temperature)} for answer in answers]

    def score(self, text: str, temperature: float) -> float:
        """The score of an answer with all logits divided by the temperature, at most 1."""
        windows = [(probabilities(start / temperature), probabilities(end / temperature)) for start, end in self.logits]
        if not text:
            return min((float(start[0] * end[0]) for start, end in windows), default=1.0)
        spans = self.spans[text.lower()]
        return min(1.0, sum(float(windows[w][0][left + 1] * windows[w][1][right + 1]) for w, left, right in spans))


Option = int | str | None
Model = str | os.PathLike | PreTrainedModel
Tokenizer = str | os.PathLike | tuple | PreTrainedTokenizerFast  # tuple: ("name", {"use_fast": False})


def pipeline(
    task: str = "question-answering",
    model: Model | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    device: int | str | torch.device | None = None,
    calibration: Calibration | bool | None = True,
    **options: Option,
) -> QuestionAnswerer:
    """A question answerer with the call and the results of transformers 4's pipeline("question-answering").

    model, tokenizer: folder, hub name or object; the tokenizer is the model's own unless it is given. device: a
    number, name or torch.device (default: the GPU when there is one). calibration: True takes the one in the model's
    folder, where run_squad.py --calibrate has left one; False takes none. options: see AnswerOptions.
    """
    if task != "question-answering":
        raise SquadError(f'pipeline("{task}") does not exist here; the only task is "question-answering"')
    if model is None:
        raise SquadError('name a model: pipeline("question-answering", model="the output_dir of run_squad.py")')
    source = tokenizer[0] if isinstance(tokenizer, tuple) else tokenizer or model  # ("name", {"use_fast": False})
    if isinstance(source, PreTrainedModel):
        raise SquadError("a model object needs tokenizer=… beside it")
    config = model.config if isinstance(model, PreTrainedModel) else load_config(os.fspath(model))
    if not isinstance(source, PreTrainedTokenizerFast):
        source = load_tokenizer(os.fspath(source), config)
    if not isinstance(model, PreTrainedModel):
        folder = os.fspath(model)
        model = load_model(folder, config)
        calibration = load_calibration(folder, model) if calibration is True else calibration
    if device is None:
        device = 0 if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = ("cpu" if device < 0 else f"cuda:{device}") if isinstance(device, int) else device
    model.to(device)  # type: ignore[arg-type]  # the annotation of transformers takes only a model
    kept = calibration if isinstance(calibration, Calibration) else None
    return QuestionAnswerer(model.eval(), source, options, kept)


class QuestionAnswerer:
    """Answers questions from their contexts; made by `pipeline`.

    qa({"question": …, "context": …}) or qa(question=…, context=…) returns {"score", "start", "end", "answer"}: the
    probability (with a calibration: that the answer is exactly right), the characters [start, end) of the context, and
    the text there. Lists give lists of these, and so
    does top_k > 1. Several questions about one context: qa(question=[…], context="…"). data= and X= are other names
    for the first argument. Both texts are read as they are, in whichever form of Unicode.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        options: dict[str, Option],
        calibration: Calibration | None = None,
    ) -> None:
        self.calibration = calibration
        self.tokenizer, self.options, self.template = tokenizer, options, pair_template(tokenizer)
        self.num_positions = num_positions(model)
        longest = int(min(384, tokenizer.model_max_length, self.num_positions))
        self.runner = WindowModel(model, LONGEST, longest)
        self._settings({})

    def __call__(
        self,
        *inputs: Any,
        question: Any = None,
        context: Any = None,
        data: Any = None,
        X: Any = None,
        **options: Option,
    ) -> Any:
        settings = self._settings(options)
        named = [value for value in (X, data) if value is not None]
        examples, single = _question_examples(inputs or tuple(named[:1]), question, context)
        answers: list[list[Answer]] = []
        for first in range(0, len(examples), ANSWER_BLOCK):
            block = self.find(examples[first : first + ANSWER_BLOCK], settings)
            answers += [found.top(settings, self.calibration) for found in block]
        found = [best[0] for best in answers] if settings.top_k == 1 else answers
        return found[0] if single else found

    def _settings(self, options: dict[str, Option]) -> AnswerOptions:
        """The options of one call, over those of the pipeline, with the defaults filled in. None: not given."""
        given: dict[str, Any] = {}  # may be anything until it is checked
        for name, value in [*self.options.items(), *options.items()]:
            if value is not None:
                given["top_k" if name == "topk" else name] = value
        unknown = sorted(set(given) - set(AnswerOptions._fields))
        if unknown:
            raise SquadError(f"no such option: {', '.join(unknown)}; there are {', '.join(AnswerOptions._fields)}")
        if given.get("padding") not in PADDING:
            raise SquadError(f"padding is {given['padding']!r}; it changes no answer and must be one of {PADDING}")
        for name in NUMBERS:
            if not isinstance(given.get(name, 0), (int, np.integer)):
                raise SquadError(f"{name} is {given[name]!r}; it must be a whole number")
        longest = given.get("max_seq_len", self.runner.max_seq_length)
        batch_size = 4 if self.runner.device.type == "cpu" else 32
        defaults = {"max_seq_len": longest, "doc_stride": min(longest // 2, 128), "batch_size": batch_size}
        settings = AnswerOptions(**{**defaults, **given})
        self._check(settings)
        return settings

    def _check(self, settings: AnswerOptions) -> None:
        least = {"max_seq_len": self.template.num_special + 2, "doc_stride": 0}
        for name in NUMBERS:
            value = getattr(settings, name)
            if value is not None and value < least.get(name, 1):
                raise SquadError(f"{name} is {value}; it must be at least {least.get(name, 1)}")
        if settings.max_seq_len > self.num_positions:
            raise SquadError(f"max_seq_len is {settings.max_seq_len}; this model takes {self.num_positions} tokens")
        if settings.doc_stride >= settings.max_seq_len:
            raise SquadError(
                f"doc_stride is {settings.doc_stride}; it must be below max_seq_len, {settings.max_seq_len}"
            )

    def find(self, examples: list[Example], settings: AnswerOptions | None = None) -> list[Found]:
        """What is found for each of a block of questions. settings: the pipeline's own unless they are given."""
        settings = settings or self._settings({})
        windows, encodings = self._windows(examples, settings)
        starts, ends = predict_logits(self.runner, windows, 0, len(windows), settings.batch_size)
        if np.isnan(starts).any() or np.isnan(ends).any():
            raise SquadError("the model's logits are not numbers; the checkpoint is broken")
        return [self._found(windows, e, encodings, starts, ends, settings) for e in range(len(examples))]

    def _windows(self, examples: list[Example], settings: AnswerOptions) -> tuple[Windows, list[Encoding]]:
        """The windows of a block, and the encoding of each distinct context, which knows the characters of a piece."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        contexts, context_row = distinct(example.context for example in examples)
        questions, question_row = distinct(example.question for example in examples)
        encodings = backend.encode_batch(contexts, add_special_tokens=False)
        asked = backend.encode_batch_fast(questions, add_special_tokens=False)
        pieces = ragged([encoding.ids for encoding in encodings])
        words = ragged([[-1 if w is None else w for w in encoding.word_ids] for encoding in encodings])
        texts = TokenisedExamples(
            examples,
            ContextPieces(pieces.values, pieces.first, words.values),
            ragged([encoding.ids[: settings.max_question_len] for encoding in asked]),
            context_row,
            question_row,
        )
        texts = _shorten_questions(texts, self.template, settings)
        room = np.maximum(context_room(texts, self.template, settings.max_seq_len), 1)  # below 1: of a blank context
        shared = np.where(settings.doc_stride < room, settings.doc_stride, room // 2)
        step = room - shared if settings.window_step is None else np.minimum(room, settings.window_step)
        return cut_windows(texts, self.template, room, step), encodings

    def _found(
        self,
        windows: Windows,
        example: int,
        encodings: list[Encoding],
        starts: np.ndarray,
        ends: np.ndarray,
        settings: AnswerOptions,
    ) -> Found:
        """What is found for an example; the scores of the same text at several places are added up."""
        context = windows.examples[example].context
        offsets = encodings[windows.context_row[example]].offsets
        count = settings.top_k * 2 + 10 if settings.align_to_words else settings.top_k  # words may coincide
        found: dict[str, Answer] = {}
        spans: dict[str, list[tuple[int, int, int]]] = {}
        logits = []
        null_score = 1.0
        for window in range(windows.first_window[example], windows.first_window[example + 1]):
            words = windows.context_pieces(window)[1].tolist()
            places = offsets[windows.start[window] :]
            first = windows.context_offset(window)
            inside = np.array([self.template.cls_index, *range(first, first + len(words))])
            logits.append((starts[window, inside], ends[window, inside]))
            start, end = map(probabilities, logits[-1])
            null_score = min(null_score, float(start[0] * end[0]))
            width = first + len(words) + len(self.template.suffix)
            for score, left, right in best_spans(start, end, settings.max_answer_len, count, inside, width):
                begin, finish = characters(places, words, left, right, settings.align_to_words)
                text = context[begin:finish].strip()  # sentence pieces hold the space before a word
                if text:
                    begin = context.index(text, begin)
                    finish = begin + len(text)
                if text or not score:  # transformers 4 fills a large top_k up with a span that ends before it starts
                    answer: Answer = {"score": 0.0, "start": begin, "end": finish, "answer": text}
                    found.setdefault(text.lower(), answer)["score"] += score
                    spans.setdefault(text.lower(), []).append((len(logits) - 1, left, right))
        return Found(found, spans, logits, null_score)


def _question_examples(inputs: tuple, question: Any, context: Any) -> tuple[list[Example], bool]:
    """(examples, whether one answer rather than a list is wanted) of everything that a call may be given."""
    if len(inputs) == 1 and isinstance(inputs[0], dict):
        question, context = inputs[0].get("question"), inputs[0].get("context")
    elif len(inputs) == 2 and isinstance(inputs[0], str):
        question, context = inputs
    elif inputs:
        given = inputs[0] if len(inputs) == 1 else inputs
        records = list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(record, dict) for record in records):
            raise SquadError('give questions as {"question": …, "context": …}, one or a list of them')
        question, context = ([record.get(name) for record in records] for name in ("question", "context"))
    elif question is None and context is None:
        raise SquadError('nothing is asked; give {"question": …, "context": …}, or question=… and context=…')
    single = isinstance(question, str)
    questions = [question] if single else list(question or [])
    contexts = [context] * len(questions) if isinstance(context, str) else list(context or [])
    if len(questions) != len(contexts):
        raise SquadError(f"{len(questions)} questions, but {len(contexts)} contexts")
    for text in [*questions, *contexts]:
        if not isinstance(text, str) or not text:
            raise SquadError(f'each input needs a "question" and a "context" that are text and not empty, not {text!r}')
    pairs = zip(questions, contexts, strict=True)
    examples = [Example(f"number {n}", q, c, (), False) for n, (q, c) in enumerate(pairs, 1)]
    for example in examples:
        refuse_half_pair(example.question, f"{example.qid}: the question")
        refuse_half_pair(example.context, f"{example.qid}: the context")
    return examples, single


def _shorten_questions(texts: TokenisedExamples, template: PairTemplate, settings: AnswerOptions) -> TokenisedExamples:
    """The texts with questions cut that leave too little of a window to a context which needs several windows.

    Too little: less than half a window, and not more than doc_stride, so that the next window could not move on;
    transformers 4 ended with an exception here. One warning for all of them.
    """
    half = settings.max_seq_len // 2
    wanted = min(half, settings.doc_stride + 1 if settings.window_step is None else settings.window_step)
    room = context_room(texts, template, settings.max_seq_len)
    context = np.diff(texts.contexts.first)[texts.context_row]
    long = np.flatnonzero((room < wanted) & (np.maximum(room, 0) < context))
    if not len(long):
        return texts
    kept = max(1, settings.max_seq_len - template.num_special - half)
    rows = [texts.questions[row].tolist() for row in range(len(texts.questions.first) - 1)]
    example = texts.examples[long[0]]
    logger.warning(
        'too long for windows of %d tokens: the question "%.60s" (%d pieces)%s; only the first %d pieces are read, so '
        "that half of the window is left for the context; shorten it, or raise max_seq_len if the model takes more",
        settings.max_seq_len,
        " ".join(example.question.split()),
        len(rows[texts.question_row[long[0]]]),
        f" and {len(long) - 1} more" if len(long) > 1 else "",
        kept,
    )
    question_row = texts.question_row.copy()
    question_row[long] += len(rows)
    return replace(texts, questions=ragged(rows + [row[:kept] for row in rows]), question_row=question_row)
