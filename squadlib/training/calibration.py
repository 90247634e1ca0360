"""How far the scores of `pipeline` can be trusted: a calibration fitted on some articles and judged on the others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedModel

from squadlib.console import SquadError, logger, progress_bar
from squadlib.data import Example
from squadlib.model.answering import ANSWER_BLOCK, Found, QuestionAnswerer
from squadlib.model.calibration import Calibration, save_calibration
from squadlib.model.layout import LONGEST, WindowModel
from squadlib.training.evaluation import Evaluation, Outcome

NUM_GROUPS = 10  # of questions with like scores, of equal size, for the calibration error
COLDEST, HOTTEST = 0.1, 10.0  # temperatures that are tried
CERTAIN = 1e-6  # scores are kept this far from 0 and 1, so that one surprise does not decide all
COVERAGES = (0.25, 0.5, 0.75, 1.0)

Golds = dict[str, list[str]]
Texts = dict[str, str]


@dataclass(frozen=True)
class Metric:
    """The official evaluator, as far as it is needed here; see evaluate_v2.py."""

    score_answers: Callable[[Golds, Texts], tuple[dict[str, float], dict[str, float]]]
    best_thresholds: Callable[[Golds, Texts, dict[str, float]], dict[str, float]]


class Asked(NamedTuple):
    """A question with what `pipeline` found for it. file: name of its file, whose ids may be those of another."""

    file: str
    example: Example
    found: Found


class Scores(NamedTuple):
    """Scores of answers, 0 to 1, and whether each is exactly right, 0 or 1: float64 arrays."""

    score: np.ndarray
    right: np.ndarray


class Report(NamedTuple):
    """A calibration, and the scores of the questions that it was not fitted on, before and after, by file."""

    calibration: Calibration
    with_null: bool  # whether "" was among the answers
    fitted_on: dict[str, object]  # for people: the articles, and how many questions
    before: dict[str, Scores]
    after: dict[str, Scores]

    def figures(self, file: str) -> dict[str, float]:
        """Expected calibration errors, 0 to 100, and what was fitted; {} for a file without a question to judge on."""
        if file not in self.after:
            return {}
        fitted = self.calibration._asdict()
        if not self.with_null:
            del fitted["null_threshold"]
        errors = {"ece_before": calibration_error(self.before[file]), "ece": calibration_error(self.after[file])}
        return {**errors, "ece_total": len(self.after[file].score), **fitted}

    def save(self, folder: str, model: PreTrainedModel) -> None:
        """Write the calibration beside the model."""
        logger.info("Saved %s", save_calibration(folder, model, self.calibration, self.fitted_on))


def with_figures(outcomes: dict[str, Outcome], report: Report) -> dict[str, Outcome]:
    """The outcomes, by name of the file, with the figures of the calibration behind their scores."""
    return {
        name: outcome._replace(results=outcome.results | report.figures(name)) for name, outcome in outcomes.items()
    }


def choose_articles(evaluations: list[Evaluation]) -> list[str]:
    """The articles to fit on: half of the questions or a little more, chosen by the digests of the titles.

    An article is on the same side in every file, as files of several languages may be translations of each other.
    """
    sizes: dict[str, int] = {}
    for evaluation in evaluations:
        for example in evaluation.windows.examples:
            sizes[example.article] = sizes.get(example.article, 0) + 1
    if len(sizes) < 2:
        raise SquadError(
            "--calibrate fits on some articles and judges on others, but all questions to score are of one article, "
            f'"{next(iter(sizes))}"; give a --predict_file with several'
        )
    chosen, rest = [], sum(sizes.values())
    half = rest / 2
    for article in sorted(sizes, key=lambda title: hashlib.sha256(title.encode()).hexdigest())[:-1]:
        if rest <= half:
            break
        chosen.append(article)
        rest -= sizes[article]
    return chosen


def calibrate(runner: WindowModel, evaluations: list[Evaluation], articles: list[str], metric: Metric) -> Report | None:
    """Ask `pipeline` all questions, fit on these articles, judge on the others; None on all ranks but 0.

    The runner is left in the layout of `pipeline`.
    """
    tokenizer, processes = evaluations[0].tokenizer, evaluations[0].processes
    with_null = evaluations[0].decoding.version_2_with_negative
    questions = [(evaluation.name, example) for evaluation in evaluations for example in evaluation.windows.examples]
    runner.use(LONGEST)
    qa = QuestionAnswerer(runner.model.eval(), tokenizer, {"handle_impossible_answer": with_null})
    shares = processes.gather(ask(qa, questions[processes.rank :: processes.world]))
    if not processes.is_main:
        return None
    asked = [question for share in shares for question in share]
    fit = [question for question in asked if question.example.article in articles]
    others = [question for question in asked if question.example.article not in articles]
    threshold = fit_threshold(fit, metric) if with_null else 0.0
    temperature = fit_temperature(fit, with_null, threshold, metric)
    calibration = Calibration(temperature, threshold)
    logger.info(
        "Calibration: temperature %.3f, null threshold %.3f, fitted on %d questions of %d articles",
        *calibration,
        len(fit),
        len(articles),
    )
    if temperature in (COLDEST, HOTTEST):
        logger.warning("The temperature is at the end of its range: these questions do not tell what a score is worth")
    names = [evaluation.name for evaluation in evaluations]
    parts = {name: part for name in names if (part := [question for question in others if question.file == name])}
    before, after = (
        {file: answer_scores(part, with_null, given, metric) for file, part in parts.items()}
        for given in (Calibration(1.0), calibration)
    )
    facts = {"handle_impossible_answer": with_null, "questions": len(fit), "articles": articles}
    return Report(calibration, with_null, facts, before, after)


def ask(qa: QuestionAnswerer, questions: list[tuple[str, Example]]) -> list[Asked]:
    asked: list[Asked] = []
    with progress_bar(total=len(questions), unit="question", desc="Calibrating") as bar:
        for first in range(0, len(questions), ANSWER_BLOCK):
            block = questions[first : first + ANSWER_BLOCK]
            found = qa.find([example for _, example in block])
            asked += [Asked(*question, answer) for question, answer in zip(block, found, strict=True)]
            bar.update(len(block))
    return asked


def _golds(asked: list[Asked]) -> dict[str, list[str]]:
    """Gold answers by the number of the question, as ids may repeat between files."""
    return {str(number): [a.text for a in question.example.answers] for number, question in enumerate(asked)}


def fit_threshold(asked: list[Asked], metric: Metric) -> float:
    """The threshold on the null odds with the most exactly right answers."""
    best = {str(number): question.found.best for number, question in enumerate(asked)}
    odds = {str(number): question.found.null_odds for number, question in enumerate(asked)}
    return metric.best_thresholds(_golds(asked), best, odds)["best_exact_null_odds_thresh"]


def first_answers(asked: list[Asked], with_null: bool, threshold: float) -> list[str]:
    return [question.found.ranked(with_null, threshold)[0]["answer"] for question in asked]


def are_right(asked: list[Asked], answers: list[str], metric: Metric) -> np.ndarray:
    exact, _ = metric.score_answers(_golds(asked), {str(number): text for number, text in enumerate(answers)})
    return np.array(list(exact.values()), np.float64)


def answer_scores(asked: list[Asked], with_null: bool, calibration: Calibration, metric: Metric) -> Scores:
    """What `pipeline` says of its first answers, and whether they are right."""
    answers = first_answers(asked, with_null, calibration.null_threshold)
    return Scores(scores_at(asked, answers, calibration.temperature), are_right(asked, answers, metric))


def scores_at(asked: list[Asked], answers: list[str], temperature: float) -> np.ndarray:
    pairs = zip(asked, answers, strict=True)
    return np.array([question.found.score(text, temperature) for question, text in pairs], np.float64)


def fit_temperature(asked: list[Asked], with_null: bool, threshold: float, metric: Metric) -> float:
    """The temperature under which the scores of the first answers say best which are right: least log loss."""
    answers = first_answers(asked, with_null, threshold)
    right = are_right(asked, answers, metric)

    def loss(logarithm: float) -> float:
        score = scores_at(asked, answers, math.exp(logarithm)).clip(CERTAIN, 1 - CERTAIN)
        return float(-np.log(np.where(right > 0, score, 1 - score)).mean())

    low, high = math.log(COLDEST), math.log(HOTTEST)
    while True:  # a grid, then finer ones around the best place
        grid = np.linspace(low, high, 13)
        best = min(grid, key=loss)
        step = grid[1] - grid[0]
        if step < 1e-3:
            return round(math.exp(best), 4)
        low, high = max(best - step, math.log(COLDEST)), min(best + step, math.log(HOTTEST))


def reliability(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean score, share of right answers, number) of groups of equal size by rising score, float64 (NUM_GROUPS,)."""
    order = np.argsort(scores.score, kind="stable")
    parts = np.array_split(order, min(NUM_GROUPS, len(order)))
    said, right = (np.array([values[part].mean() for part in parts]) for values in scores)
    return said, right, np.array([float(len(part)) for part in parts])


def calibration_error(scores: Scores) -> float:
    """Expected calibration error, 0 to 100: how far mean score and share of right answers of a group are apart."""
    said, right, number = reliability(scores)
    return 100.0 * float((np.abs(said - right) * number).sum() / number.sum())


def risks(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """(coverage, risk), 0 to 1: the share of wrong ones among the answers with the highest scores, 1, 2, … of them."""
    right = scores.right[np.argsort(-scores.score, kind="stable")]
    count = np.arange(1, len(right) + 1)
    return count / len(right), 1 - np.cumsum(right) / count


def tables(report: Report) -> str:
    """Markdown: the groups behind the calibration error, and the risk at a few coverages, of each file."""
    lines = []
    for file in report.after:
        sides = report.before[file], report.after[file]
        lines += [f"**{file}**\n"] if file else []
        lines += ["| Group | Score before | Right | Score after | Right |", "|---:|---:|---:|---:|---:|"]
        columns = [column for side in sides for column in reliability(side)[:2]]
        for number, row in enumerate(zip(*columns, strict=True), 1):
            lines.append(f"| {number} | {' | '.join(f'{value:.3f}' for value in row)} |")
        lines += ["", "| Answered | Wrong before | Wrong after |", "|---:|---:|---:|"]
        curves = [risks(side)[1] for side in sides]
        for share in COVERAGES:
            place = max(0, round(share * len(curves[0])) - 1)
            lines.append(f"| {share:.0%} | {' | '.join(f'{100 * risk[place]:.1f} %' for risk in curves)} |")
        lines.append("")
    return "\n".join(lines)
