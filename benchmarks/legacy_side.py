"""The peers: what runs in the environment with transformers 4.57.6, which common.py makes in .legacy-env.

    python benchmarks/legacy_side.py serve                                       jobs for the other programs
    python benchmarks/legacy_side.py steps MODEL_DIR FOLDER DEVICE WARMUP STEPS  the 2020 loop, measured
    python benchmarks/legacy_side.py script|trainer MODEL_DIR FOLDER             the 2020 script, run_qa.py

The 2020 script is the library's own functions around the loop of tests/training_2020.py. run_qa.py, which no package
holds, is restated from its documented behaviour, over datasets and Trainer. Whole programs train on FOLDER/train.json
and evaluate on FOLDER/dev.json.
"""

from __future__ import annotations

import collections
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from common import LENGTHS, ROOT, Usage, end_after_steps, realistic_logits, serve, timed
from transformers.data.metrics import squad_metrics
from transformers.data.processors import squad

sys.path.insert(0, str(ROOT / "tests"))
import training_2020

BATCH_SIZE, N_BEST, MAX_ANSWER_LENGTH = 8, 20, 30
FILES = {"prediction": "predictions", "nbest": "nbest_predictions", "null_log_odds": "null_odds"}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
FIELDS = (
    *("unique_id", "example_index", "qas_id", *INPUTS, "cls_index", "paragraph_len", "tokens", "token_to_orig_map"),
    *("token_is_max_context", "start_position", "end_position", "is_impossible"),
)
squad.tqdm = lambda iterable, **_: iterable


# ---------------------------------------------------------------------------------------------------------------------
# The 2020 script
# ---------------------------------------------------------------------------------------------------------------------


def read_examples(path: str | Path, training: bool) -> list[Any]:
    processor = squad.SquadV2Processor()
    read = processor.get_train_examples if training else processor.get_dev_examples
    return read(None, filename=str(path))


def make_features(examples: list[Any], tokenizer: Any, lengths: Any, training: bool) -> list[Any]:
    """The library's windows, numbered as its own driver does it; that one needs a process pool."""
    squad.squad_convert_example_to_features_init(tokenizer)
    convert = squad.squad_convert_example_to_features
    of_examples = [convert(example, *lengths, "max_length", training) for example in examples]
    features: list[Any] = []
    for index, windows in enumerate(filter(None, of_examples)):
        for window in windows:
            window.example_index, window.unique_id = index, 1000000000 + len(features)
            features.append(window)
    return features


def write_predictions(work: tuple, folder: Path, prefix: str = "", **options: Any) -> dict[str, str]:
    """The three files of the 2020 script. work: examples, features, (start logits, end logits) as lists, tokenizer."""
    examples, features, logits, tokenizer = work
    ids = [feature.unique_id for feature in features]
    results = [squad.SquadResult(*values) for values in zip(ids, *logits, strict=True)]
    chosen = {"n_best_size": N_BEST, "max_answer_length": MAX_ANSWER_LENGTH, "verbose_logging": False}
    chosen |= {"do_lower_case": False, "version_2_with_negative": True, "null_score_diff_threshold": 0.0, **options}
    for kind in ("prediction", "nbest", "null_log_odds"):
        chosen[f"output_{kind}_file"] = str(folder / f"{FILES[kind]}_{prefix}.json")
    if not chosen["version_2_with_negative"]:
        chosen["output_null_log_odds_file"] = None
    return squad_metrics.compute_predictions_logits(examples, features, results, tokenizer=tokenizer, **chosen)


def make_dataset(path: Path, tokenizer: Any, training: bool) -> tuple[Any, Any, Any]:
    """(examples, features, dataset), written to the feature cache as the script does."""
    examples = read_examples(path, training)
    features, dataset = squad.squad_convert_examples_to_features(
        examples, tokenizer, *LENGTHS, training, return_dataset="pt", threads=1, tqdm_enabled=False
    )
    torch.save({"features": features, "dataset": dataset, "examples": examples}, path.with_suffix(".cache"))
    return examples, features, dataset


def train(model: Any, dataset: Any, device: str = "cpu") -> None:
    """One epoch of the 2020 loop."""
    columns = [tensor.to(device) for tensor in dataset.tensors[:5]]
    settings = training_2020.Settings(num_train_epochs=1, per_gpu_train_batch_size=BATCH_SIZE)
    training_2020.train(model.to(device), torch.utils.data.TensorDataset(*columns), settings)


def steps(model_dir: str, folder: str, device: str, warmup: str, count: str) -> None:
    end_after_steps(int(warmup), int(count), Path(folder, "result.json"))
    dataset = make_dataset(Path(folder, "train.json"), transformers.BertTokenizer.from_pretrained(model_dir), True)[2]
    train(transformers.AutoModelForQuestionAnswering.from_pretrained(model_dir), dataset, device)


def script(model_dir: str, folder: str) -> None:
    """The 2020 run_squad.py from reading to the results."""
    transformers.set_seed(42)
    tokenizer, output = transformers.BertTokenizer.from_pretrained(model_dir), Path(folder, "legacy")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(model_dir)
    train(model, make_dataset(Path(folder, "train.json"), tokenizer, True)[2])
    for part in (model, tokenizer):
        part.save_pretrained(output)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(output).eval()
    examples, features, dataset = make_dataset(Path(folder, "dev.json"), tokenizer, False)
    starts, ends = [], []
    for columns in torch.utils.data.DataLoader(dataset, batch_size=BATCH_SIZE):
        with torch.no_grad():
            outputs = model(**dict(zip(INPUTS, columns, strict=False)))
        starts += outputs.start_logits.tolist()
        ends += outputs.end_logits.tolist()
    predictions = write_predictions((examples, features, (starts, ends), tokenizer), output)
    print(dict(squad_metrics.squad_evaluate(examples, predictions)))


# ---------------------------------------------------------------------------------------------------------------------
# run_qa.py
# ---------------------------------------------------------------------------------------------------------------------


def read_table(path: str | Path) -> Any:
    """The questions as the datasets table that run_qa.py works on."""
    import datasets  # the 2020 script did not pay for this import

    datasets.disable_progress_bars()
    rows = []
    for article in json.loads(Path(path).read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                answers = [] if qa.get("is_impossible") else qa["answers"]
                columns = {name: [answer[name] for answer in answers] for name in ("text", "answer_start")}
                texts = {"question": qa["question"], "context": paragraph["context"]}
                rows.append({"id": qa["id"], **texts, "answers": columns})
    return datasets.Dataset.from_list(rows)


def map_table(table: Any, tokenizer: Any, training: bool) -> Any:
    prepare = partial(train_features if training else dev_features, tokenizer)
    return table.map(prepare, batched=True, remove_columns=table.column_names, load_from_cache_file=False)


def tokenize(tokenizer: Any, batch: dict[str, list]) -> Any:
    cut = {"truncation": "only_second", "max_length": LENGTHS[0], "stride": LENGTHS[1], "padding": "max_length"}
    questions = [question.lstrip() for question in batch["question"]]
    return tokenizer(questions, batch["context"], return_overflowing_tokens=True, return_offsets_mapping=True, **cut)


def train_features(tokenizer: Any, batch: dict[str, list]) -> Any:
    """Padded windows with start_positions and end_positions found from the character offsets."""
    encoded = tokenize(tokenizer, batch)
    rows, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    labels = []
    for window, spans in enumerate(offsets):
        cls_index = encoded["input_ids"][window].index(tokenizer.cls_token_id)
        answers, found = batch["answers"][rows[window]], None
        if answers["answer_start"]:
            begin = answers["answer_start"][0]
            found = covering_tokens(spans, encoded.sequence_ids(window), begin, begin + len(answers["text"][0]))
        labels.append(found or (cls_index, cls_index))
    encoded["start_positions"], encoded["end_positions"] = map(list, zip(*labels, strict=True))
    return encoded


def covering_tokens(spans: list, source: list, begin: int, end: int) -> tuple[int, int] | None:
    """First and last token that cover the characters, or None when the window does not hold them all."""
    first, last = source.index(1), len(source) - 1
    while source[last] != 1:
        last -= 1
    if spans[first][0] > begin or spans[last][1] < end:
        return None
    while first < len(spans) and spans[first][0] <= begin:
        first += 1
    while spans[last][1] >= end:
        last -= 1
    return first - 1, last + 1


def dev_features(tokenizer: Any, batch: dict[str, list]) -> Any:
    """Padded windows with example_id, and the offsets of context tokens only."""
    encoded = tokenize(tokenizer, batch)
    encoded["example_id"] = [batch["id"][row] for row in encoded.pop("overflow_to_sample_mapping")]
    for window, spans in enumerate(encoded["offset_mapping"]):
        source = encoded.sequence_ids(window)
        encoded["offset_mapping"][window] = [s if part == 1 else None for s, part in zip(spans, source, strict=True)]
    return encoded


def postprocess(table: Any, features: Any, logits: Any, folder: Path) -> dict[str, str]:
    """Prediction, n-best and null-odds files, each question from its windows, texts cut out by character offsets."""
    windows_of = collections.defaultdict(list)
    for number, feature in enumerate(features):
        windows_of[feature["example_id"]].append((number, feature["offset_mapping"]))
    predictions, nbests, null_odds = {}, {}, {}
    for row in table:
        nbest, null_score = nbest_of(row["context"], windows_of[row["id"]], logits)
        best = next(entry for entry in nbest if entry["text"])
        odds = null_score - best["start_logit"] - best["end_logit"]
        predictions[row["id"]], null_odds[row["id"]] = "" if odds > 0.0 else best["text"], float(odds)
        nbests[row["id"]] = [{k: v if k == "text" else float(v) for k, v in entry.items()} for entry in nbest]
    for name, content in (("predictions", predictions), ("nbest", nbests), ("null_odds", null_odds)):
        (folder / f"run_qa_{name}.json").write_text(json.dumps(content, indent=4) + "\n")
    return predictions


def nbest_of(context: str, windows: list, logits: Any) -> tuple[list[dict[str, Any]], float]:
    """(n-best entries of one question with texts and probabilities, null score)."""
    null, entries = None, []
    for number, offsets in windows:
        start, end = logits[0][number], logits[1][number]
        score = start[0] + end[0]
        if null is None or score < null["score"]:
            null = {"offsets": (0, 0), "score": score, "start_logit": start[0], "end_logit": end[0]}
        lasts = np.argsort(end)[: -N_BEST - 1 : -1].tolist()
        for first in np.argsort(start)[: -N_BEST - 1 : -1].tolist():
            for last in lasts:
                if first >= len(offsets) or last >= len(offsets) or not offsets[first] or not offsets[last]:
                    continue
                if last < first or last - first + 1 > MAX_ANSWER_LENGTH:
                    continue
                place, score = (offsets[first][0], offsets[last][1]), start[first] + end[last]
                entries.append({"offsets": place, "score": score, "start_logit": start[first], "end_logit": end[last]})
    nbest = sorted([*entries, null], key=lambda entry: entry["score"], reverse=True)[:N_BEST]
    if not any(entry["offsets"] == (0, 0) for entry in nbest):
        nbest.append(null)
    for entry in nbest:
        begin, end = entry.pop("offsets")
        entry["text"] = context[begin:end]
    if len(nbest) == 1:
        nbest.insert(0, {"text": "empty", "score": 0.0, "start_logit": 0.0, "end_logit": 0.0})
    scores = np.array([entry.pop("score") for entry in nbest])
    exponentials = np.exp(scores - scores.max())
    for entry, probability in zip(nbest, exponentials / exponentials.sum(), strict=True):
        entry["probability"] = probability
    return nbest, null["start_logit"] + null["end_logit"]


def trainer(model_dir: str, folder: str) -> None:
    """run_qa.py from reading to the results; no logs, which need packages that the others lack."""
    tokenizer, work = transformers.BertTokenizerFast.from_pretrained(model_dir), Path(folder)
    options: dict[str, Any] = {"num_train_epochs": 1, "learning_rate": 5e-5, "seed": 42, "use_cpu": True}
    options |= dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), BATCH_SIZE)
    options |= {"output_dir": str(work / "trainer"), "report_to": "none", "disable_tqdm": True}
    loop = transformers.Trainer(
        model=transformers.AutoModelForQuestionAnswering.from_pretrained(model_dir),
        args=transformers.TrainingArguments(**options),
        train_dataset=map_table(read_table(work / "train.json"), tokenizer, True),
        processing_class=tokenizer,
        data_collator=transformers.default_data_collator,
    )
    loop.train()
    loop.save_model()
    table = read_table(work / "dev.json")
    features = map_table(table, tokenizer, False)
    logits = loop.predict(features.remove_columns(["example_id", "offset_mapping"])).predictions
    predictions = postprocess(table, features, logits, work)
    golds = [SimpleNamespace(qas_id=q["id"], answers=[{"text": t} for t in q["answers"]["text"]]) for q in table]
    print(dict(squad_metrics.squad_evaluate(golds, predictions)))


# ---------------------------------------------------------------------------------------------------------------------
# Jobs on one file
# ---------------------------------------------------------------------------------------------------------------------


def serve_jobs() -> None:
    """`load` comes first, `windows` before `dump` and `decoding`, `run_qa_decoding_work` before `run_qa_decoding`."""
    kept: dict[str, Any] = {}

    def load(file: str, model_dir: str, training: bool) -> None:
        kept.update(examples=read_examples(file, training), table=read_table(file), training=training, features=None)
        kinds = {"slow": transformers.BertTokenizer, "fast": transformers.BertTokenizerFast}
        kept.update({name: kind.from_pretrained(model_dir) for name, kind in kinds.items()})

    def windows(lengths: Any = LENGTHS) -> Usage:
        kept.pop("features")
        work = partial(make_features, kept["examples"], kept["slow"], lengths, kept["training"])
        return timed(lambda: kept.update(features=work()))

    def dump(path: str) -> None:
        """Every field of every window, a line each."""
        with open(path, "w", encoding="utf-8") as out:
            for feature in kept["features"]:
                fields = {name: getattr(feature, name) for name in FIELDS}
                out.write(json.dumps(fields, default=lambda value: value.tolist()) + "\n")

    def decoding(logits: str, folder: str, options: dict[str, Any] | None = None) -> Usage:
        if kept.get("logits_file") != logits:
            with np.load(logits) as arrays:
                kept.update(logits_file=logits, logits=[arrays[name].tolist() for name in ("start", "end")])
        work = tuple(kept[name] for name in ("examples", "features", "logits", "slow"))
        return timed(lambda: write_predictions(work, Path(folder), "legacy", **(options or {})))

    def run_qa_windows() -> Usage:
        return timed(lambda: map_table(kept["table"], kept["fast"], True))

    def run_qa_decoding_work() -> None:
        """run_qa.py's own windows, which are others, with logits of the same kind."""
        labels = map_table(kept["table"], kept["fast"], True)
        positions = (np.array(labels[name][:]) for name in ("start_positions", "end_positions"))
        kept.update(qa_logits=realistic_logits(*positions, LENGTHS[0]))
        kept.update(qa_features=map_table(kept["table"], kept["fast"], False))

    def run_qa_decoding(folder: str) -> Usage:
        return timed(lambda: postprocess(kept["table"], kept["qa_features"], kept["qa_logits"], Path(folder)))

    def answers(model_dir: str, work: list[Any]) -> list[Any]:
        from pipeline_parity import answer_all

        return answer_all(transformers.pipeline, model_dir, work)

    jobs = (load, windows, dump, decoding, run_qa_windows, run_qa_decoding_work, run_qa_decoding, answers)
    serve({job.__name__: job for job in jobs})


if __name__ == "__main__":
    task, *words = sys.argv[1:]
    {"serve": serve_jobs, "steps": steps, "script": script, "trainer": trainer}[task](*words)
