"""What other programs import from the toolkit, handed on from the rooms where it lives.

from utils_squad import pipeline
qa = pipeline("question-answering", model="output")
"""

from evaluate_v2 import best_thresholds, normalise_answer, score_answers, squad_evaluate
from squadlib.console import SquadError
from squadlib.data import Answer, Example, iter_questions, load_squad, read_examples
from squadlib.files import atomic_write, read_json, write_json
from squadlib.model.answering import AnswerOptions, QuestionAnswerer, pipeline
from squadlib.model.decoding import Candidate, Decoder, Prediction
from squadlib.model.layout import PADDING_FREE, WindowModel
from squadlib.model.loading import load_config, load_model, load_tokenizer, num_positions
from squadlib.model.prediction import PredictionFiles
from squadlib.model.windows import PairTemplate, Windows, make_windows, pair_template

__all__ = [
    "PADDING_FREE",
    "Answer",
    "AnswerOptions",
    "Candidate",
    "Decoder",
    "Example",
    "PairTemplate",
    "Prediction",
    "PredictionFiles",
    "QuestionAnswerer",
    "SquadError",
    "WindowModel",
    "Windows",
    "atomic_write",
    "best_thresholds",
    "iter_questions",
    "load_config",
    "load_model",
    "load_squad",
    "load_tokenizer",
    "make_windows",
    "normalise_answer",
    "num_positions",
    "pair_template",
    "pipeline",
    "read_examples",
    "read_json",
    "score_answers",
    "squad_evaluate",
    "write_json",
]
