"""The peers of the speed benchmarks: what runs inside the side environment with transformers 4.57.6.

    python legacy_side.py windows|run_qa_windows|decoding|run_qa_decoding|step|legacy_script|trainer_script [flags]

The 2020 loops call the old library itself; run_qa.py's preparation and post-processing are restated from their
documented behaviour, over datasets and Trainer. The first five tasks serve measurements (see common.Peer); the two
scripts are whole programs. Started by the benchmark programs.
"""

from __future__ import annotations

import argparse
import collections
import json
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common import Seconds, now, realistic_logits, serve, timed

LENGTHS = (384, 128, 64)  # max_seq_length, doc_stride, max_query_length
N_BEST, MAX_ANSWER_LENGTH = 20, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--legacy_dir", type=Path, help="folder with dump_features.py")
    parser.add_argument("--model_dir", type=Path, help="vocabulary, configuration and, for the scripts, weights")
    parser.add_argument("--data_files", type=Path, nargs="+", help="SQuAD files; the scripts: train and dev file")
    parser.add_argument("--work_dir", type=Path, help="logits, batches and output files")
    parser.add_argument("--batch_size", type=int, default=8, help="windows a step (8)")
    parser.add_argument("--warmup", type=int, default=1, help="steps before a measurement (1)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="trainer_step: mixed precision")
    args = parser.parse_args()
    sys.path.insert(0, str(args.legacy_dir))  # dump_features.py
    TASKS[args.task](args)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---------------------------------------------------------------------------------------------------------------------
# The 2020 script: windows, decoding
# ---------------------------------------------------------------------------------------------------------------------


def legacy_examples(args: argparse.Namespace, training: bool) -> list[Any]:
    from dump_features import read_examples

    return [example for path in args.data_files for example in read_examples(path, training)]


def legacy_features(args: argparse.Namespace, examples: list[Any], training: bool) -> list[Any]:
    from dump_features import make_features
    from transformers import BertTokenizer

    return make_features(examples, BertTokenizer.from_pretrained(args.model_dir), *LENGTHS, training)


def legacy_windows(args: argparse.Namespace) -> None:
    """measure: seconds for all training windows; window_bytes: memory of one; dump(path): every field."""
    from dump_features import as_json, make_features
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(args.model_dir)
    examples, kept = legacy_examples(args, True), {}
    before = peak_bytes()

    def measure() -> Any:
        kept.pop("features", None)
        seconds = timed(lambda: kept.update(features=make_features(examples, tokenizer, *LENGTHS, True)))
        kept.setdefault("bytes", (peak_bytes() - before) / len(kept["features"]))
        return seconds

    def dump(path: str) -> int:
        with open(path, "w", encoding="utf-8") as out:
            out.writelines(json.dumps(as_json(feature)) + "\n" for feature in kept["features"])
        return len(kept["features"])

    serve({"measure": measure, "window_bytes": lambda: kept["bytes"], "dump": dump})


def legacy_decoding(args: argparse.Namespace) -> None:
    """measure: seconds for compute_predictions_logits over work_dir's start.npy and end.npy, files into work_dir."""
    import numpy as np
    from transformers import BertTokenizer
    from transformers.data.metrics import squad_metrics
    from transformers.data.processors.squad import SquadResult

    examples = legacy_examples(args, False)
    features = legacy_features(args, examples, False)
    starts, ends = (np.load(args.work_dir / f"{name}.npy") for name in ("start", "end"))
    results = [SquadResult(f.unique_id, s.tolist(), e.tolist()) for f, s, e in zip(features, starts, ends, strict=True)]
    tokenizer = BertTokenizer.from_pretrained(args.model_dir)
    names = ("predictions_", "nbest_predictions_", "null_odds_")
    paths = [str(args.work_dir / f"{name}legacy.json") for name in names]

    def decode() -> None:
        squad_metrics.compute_predictions_logits(
            examples, features, results, N_BEST, MAX_ANSWER_LENGTH, False, *paths, False, True, 0.0, tokenizer
        )

    serve({"measure": lambda: timed(decode)})


# ---------------------------------------------------------------------------------------------------------------------
# run_qa.py: preparation through datasets.map, post-processing
# ---------------------------------------------------------------------------------------------------------------------


def run_qa_questions(paths: list[Path]) -> Any:
    """The questions as the datasets table that run_qa.py works on."""
    from datasets import Dataset

    rows = []
    for path in paths:
        for article in json.loads(Path(path).read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    answers = [] if qa.get("is_impossible") else qa["answers"]
                    columns = {name: [a[name] for a in answers] for name in ("text", "answer_start")}
                    row = {"id": qa["id"], "question": qa["question"], "context": paragraph["context"]}
                    rows.append({**row, "answers": columns})
    return Dataset.from_list(rows)


def run_qa_tokenize(tokenizer: Any, batch: dict[str, list]) -> Any:
    return tokenizer(
        [question.lstrip() for question in batch["question"]],
        batch["context"],
        truncation="only_second",
        max_length=LENGTHS[0],
        stride=LENGTHS[1],
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length",
    )


def run_qa_train_features(tokenizer: Any, batch: dict[str, list]) -> Any:
    """Padded windows with start_positions and end_positions found from the character offsets."""
    encoded = run_qa_tokenize(tokenizer, batch)
    rows, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    starts, ends = [], []
    for window, spans in enumerate(offsets):
        cls_index = encoded["input_ids"][window].index(tokenizer.cls_token_id)
        answers = batch["answers"][rows[window]]
        found = (cls_index, cls_index)
        if answers["answer_start"]:
            first_char = answers["answer_start"][0]
            last_char = first_char + len(answers["text"][0])
            found = run_qa_label(spans, encoded.sequence_ids(window), first_char, last_char) or found
        starts.append(found[0])
        ends.append(found[1])
    encoded["start_positions"], encoded["end_positions"] = starts, ends
    return encoded


def run_qa_label(spans: list, source: list, first_char: int, last_char: int) -> tuple[int, int] | None:
    """First and last token that cover the characters, or None when the window does not hold them all."""
    first = 0
    while source[first] != 1:
        first += 1
    last = len(source) - 1
    while source[last] != 1:
        last -= 1
    if spans[first][0] > first_char or spans[last][1] < last_char:
        return None
    while first < len(spans) and spans[first][0] <= first_char:
        first += 1
    while spans[last][1] >= last_char:
        last -= 1
    return first - 1, last + 1


def run_qa_dev_features(tokenizer: Any, batch: dict[str, list]) -> Any:
    """Padded windows with example_id, and the offsets of context tokens only."""
    encoded = run_qa_tokenize(tokenizer, batch)
    rows = encoded.pop("overflow_to_sample_mapping")
    encoded["example_id"] = [batch["id"][row] for row in rows]
    for window in range(len(rows)):
        source = encoded.sequence_ids(window)
        spans = encoded["offset_mapping"][window]
        encoded["offset_mapping"][window] = [s if source[i] == 1 else None for i, s in enumerate(spans)]
    return encoded


def run_qa_map(tokenizer: Any, questions: Any, prepare: Any) -> Any:
    return questions.map(
        lambda batch: prepare(tokenizer, batch),
        batched=True,
        remove_columns=questions.column_names,
        load_from_cache_file=False,
    )


def run_qa_windows(args: argparse.Namespace) -> None:
    """measure: seconds for all training windows."""
    import datasets
    from transformers import BertTokenizerFast

    datasets.disable_progress_bars()
    tokenizer = BertTokenizerFast.from_pretrained(args.model_dir)
    questions = run_qa_questions(args.data_files)
    serve({"measure": lambda: timed(lambda: run_qa_map(tokenizer, questions, run_qa_train_features))})


def run_qa_decoding(args: argparse.Namespace) -> None:
    """measure: seconds for the post-processing of like logits over run_qa's own windows, files into work_dir."""
    import datasets
    import numpy as np
    from transformers import BertTokenizerFast

    datasets.disable_progress_bars()
    tokenizer = BertTokenizerFast.from_pretrained(args.model_dir)
    questions = run_qa_questions(args.data_files)
    labels = run_qa_map(tokenizer, questions, run_qa_train_features)
    positions = (np.array(labels[name][:]) for name in ("start_positions", "end_positions"))
    logits = realistic_logits(*positions, LENGTHS[0])
    features = run_qa_map(tokenizer, questions, run_qa_dev_features)
    serve({"measure": lambda: timed(lambda: run_qa_postprocess(questions, features, logits, args.work_dir))})


def run_qa_postprocess(questions: Any, features: Any, logits: tuple[Any, Any], folder: Path) -> None:
    """predict, n-best and null-odds files, each question from its windows, texts cut out by character offsets."""
    row_of_id = {qid: row for row, qid in enumerate(questions["id"])}
    windows_of = collections.defaultdict(list)
    for number, feature in enumerate(features):
        windows_of[row_of_id[feature["example_id"]]].append(number)
    predictions, all_nbest, null_odds = {}, {}, {}
    for row, question in enumerate(questions):
        spans = [(number, features[number]["offset_mapping"]) for number in windows_of[row]]
        nbest, null_score = run_qa_nbest(question["context"], spans, logits)
        best = next(entry for entry in nbest if entry["text"])
        odds = null_score - best["start_logit"] - best["end_logit"]
        predictions[question["id"]] = "" if odds > 0.0 else best["text"]
        null_odds[question["id"]] = float(odds)
        all_nbest[question["id"]] = [
            {name: value if name == "text" else float(value) for name, value in entry.items()} for entry in nbest
        ]
    for name, content in (("predictions", predictions), ("nbest", all_nbest), ("null_odds", null_odds)):
        with open(folder / f"run_qa_{name}.json", "w") as out:
            out.write(json.dumps(content, indent=4) + "\n")


def run_qa_nbest(context: str, spans: list, logits: tuple[Any, Any]) -> tuple[list[dict[str, Any]], float]:
    """(n-best entries of one question with texts and probabilities, null score)."""
    import numpy as np

    null, entries = None, []
    for number, offsets in spans:
        start, end = logits[0][number], logits[1][number]
        score = start[0] + end[0]
        if null is None or score < null["score"]:
            null = {"offsets": (0, 0), "score": score, "start_logit": start[0], "end_logit": end[0]}
        end_indexes = np.argsort(end)[: -N_BEST - 1 : -1].tolist()
        for first in np.argsort(start)[: -N_BEST - 1 : -1].tolist():
            for last in end_indexes:
                if first >= len(offsets) or last >= len(offsets) or not offsets[first] or not offsets[last]:
                    continue
                if last < first or last - first + 1 > MAX_ANSWER_LENGTH:
                    continue
                place = (offsets[first][0], offsets[last][1])
                total = start[first] + end[last]
                entries.append({"offsets": place, "score": total, "start_logit": start[first], "end_logit": end[last]})
    nbest = sorted([*entries, null], key=lambda entry: entry["score"], reverse=True)[:N_BEST]
    if not any(entry["offsets"] == (0, 0) for entry in nbest):
        nbest.append(null)
    for entry in nbest:
        begin, behind = entry.pop("offsets")
        entry["text"] = context[begin:behind]
    if len(nbest) == 1:
        nbest.insert(0, {"text": "empty", "score": 0.0, "start_logit": 0.0, "end_logit": 0.0})
    scores = np.array([entry.pop("score") for entry in nbest])
    exponentials = np.exp(scores - scores.max())
    for entry, probability in zip(nbest, exponentials / exponentials.sum(), strict=True):
        entry["probability"] = probability
    return nbest, null["start_logit"] + null["end_logit"]


# ---------------------------------------------------------------------------------------------------------------------
# Training: the 2020 loop and Trainer, step by step
# ---------------------------------------------------------------------------------------------------------------------


def read_batches(folder: Path) -> dict[str, Any]:
    """The padded windows that step.py wrote, in the order in which they are to be trained on."""
    import numpy as np
    import torch

    with np.load(folder / "batches.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def random_model(args: argparse.Namespace) -> Any:
    from transformers import AutoConfig, AutoModelForQuestionAnswering, set_seed

    set_seed(42)
    return AutoModelForQuestionAnswering.from_config(AutoConfig.from_pretrained(args.work_dir)).to(args.device)


def legacy_optimizer(model: Any, total_updates: int) -> tuple[Any, Any]:
    """AdamW as torch gives it by default, with the 2020 groups, and the linear schedule."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    no_decay = ("bias", "LayerNorm.weight")
    named = list(model.named_parameters())
    plain = [parameter for name, parameter in named if not any(part in name for part in no_decay)]
    other = [parameter for name, parameter in named if any(part in name for part in no_decay)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-5, eps=1e-8)
    return optimizer, get_linear_schedule_with_warmup(optimizer, 0, total_updates)


def legacy_update(model: Any, batch: dict[str, Any], optimizer: Any, scheduler: Any) -> float:
    """One step of the 2020 loop; the loss is read at once, as there."""
    import torch

    loss = model(**batch).loss
    loss.backward()
    value = loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    model.zero_grad()
    return value


def legacy_step(args: argparse.Namespace) -> None:
    """measure(count): seconds of that many steps of the 2020 loop; peak_mib: memory."""
    model, data = random_model(args).train(), read_batches(args.work_dir)
    optimizer, scheduler = legacy_optimizer(model, 1000)
    rows = iter(range(0, len(data["input_ids"]), args.batch_size))

    def steps(count: int) -> None:
        for _ in range(count):
            first = next(rows)
            batch = {name: values[first : first + args.batch_size].to(args.device) for name, values in data.items()}
            legacy_update(model, batch, optimizer, scheduler)

    steps(args.warmup)
    serve({"measure": lambda count: timed(lambda: steps(count)), "peak_mib": peak_mib})


def peak_mib() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else peak_bytes() / 2**20


def trainer_step(args: argparse.Namespace) -> None:
    """measure(count): seconds of that many steps of transformers' Trainer behind the first ones; peak_mib: memory."""
    import torch
    from transformers import Trainer, TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (args.warmup, training.max_steps):
                if torch.cuda.is_initialized():
                    torch.cuda.synchronize()
                marks.append(now())

    data, marks = read_batches(args.work_dir), []
    rows = [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]
    model = random_model(args)

    def measure(count: int) -> Any:
        flags = trainer_flags(args, max_steps=args.warmup + count, bf16=args.bf16)
        Trainer(model=model, args=flags, train_dataset=rows, callbacks=[Clock()]).train()
        return Seconds(*(b - a for a, b in zip(*marks, strict=True)))

    serve({"measure": measure, "peak_mib": peak_mib})


def trainer_flags(args: argparse.Namespace, **others: Any) -> Any:
    """run_qa.py's arguments for the published recipe; no logs, which need packages that the others lack."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(args.work_dir / "trainer"),
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=args.batch_size,
        learning_rate=5e-5,
        use_cpu=args.device == "cpu",
        dataloader_pin_memory=args.device != "cpu",
        report_to="none",
        disable_tqdm=True,
        **others,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Whole programs: one epoch, evaluation, prediction files
# ---------------------------------------------------------------------------------------------------------------------


def legacy_script(args: argparse.Namespace) -> None:
    """The 2020 run_squad.py from reading to the results: train on the first data file, evaluate on the second."""
    from transformers import AutoModelForQuestionAnswering, BertTokenizer, set_seed

    train_file, dev_file = args.data_files
    set_seed(42)
    tokenizer = BertTokenizer.from_pretrained(args.model_dir)
    model = AutoModelForQuestionAnswering.from_pretrained(args.model_dir)
    output = args.work_dir / "legacy"
    legacy_train(args, model, legacy_dataset(args, train_file, tokenizer, True)[2])
    for part in (model, tokenizer):
        part.save_pretrained(output)
    model = AutoModelForQuestionAnswering.from_pretrained(output)
    print(legacy_evaluate(args, model, tokenizer, *legacy_dataset(args, dev_file, tokenizer, False)))


def legacy_dataset(args: argparse.Namespace, path: Path, tokenizer: Any, training: bool) -> tuple[Any, Any, Any]:
    """(examples, features, dataset), written to the feature cache as the script does."""
    import torch
    from dump_features import read_examples
    from transformers import squad_convert_examples_to_features

    examples = read_examples(path, training)
    features, dataset = squad_convert_examples_to_features(
        examples, tokenizer, *LENGTHS, training, return_dataset="pt", threads=1, tqdm_enabled=False
    )
    torch.save({"features": features, "dataset": dataset, "examples": examples}, args.work_dir / f"cached_{training}")
    return examples, features, dataset


def legacy_train(args: argparse.Namespace, model: Any, dataset: Any) -> None:
    from torch.utils.data import DataLoader, RandomSampler
    from transformers import set_seed

    loader = DataLoader(dataset, sampler=RandomSampler(dataset), batch_size=args.batch_size)
    optimizer, scheduler = legacy_optimizer(model, len(loader))
    model.zero_grad()
    set_seed(42)
    names = ("input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions")
    model.train()
    for columns in loader:
        legacy_update(model, dict(zip(names, columns, strict=False)), optimizer, scheduler)


def legacy_evaluate(
    args: argparse.Namespace, model: Any, tokenizer: Any, examples: list, features: list, dataset: Any
) -> dict[str, Any]:
    import torch
    from torch.utils.data import DataLoader, SequentialSampler
    from transformers.data.metrics import squad_metrics
    from transformers.data.processors.squad import SquadResult

    model.eval()
    results = []
    for columns in DataLoader(dataset, sampler=SequentialSampler(dataset), batch_size=args.batch_size):
        with torch.no_grad():
            inputs = dict(zip(("input_ids", "attention_mask", "token_type_ids"), columns, strict=False))
            outputs = model(**inputs)
        for row, number in enumerate(columns[3]):
            logits = [values[row].detach().cpu().tolist() for values in (outputs.start_logits, outputs.end_logits)]
            results.append(SquadResult(int(features[number.item()].unique_id), *logits))
    paths = [str(args.work_dir / f"{name}.json") for name in ("predictions", "nbest", "null_odds")]
    predictions = squad_metrics.compute_predictions_logits(
        examples, features, results, N_BEST, MAX_ANSWER_LENGTH, False, *paths, False, True, 0.0, tokenizer
    )
    return dict(squad_metrics.squad_evaluate(examples, predictions))


def trainer_script(args: argparse.Namespace) -> None:
    """run_qa.py's way: datasets, Trainer, post-processing, scores of the second data file."""
    import datasets
    from transformers import AutoModelForQuestionAnswering, BertTokenizerFast, Trainer, default_data_collator
    from transformers.data.metrics import squad_metrics

    datasets.disable_progress_bars()
    tokenizer = BertTokenizerFast.from_pretrained(args.model_dir)
    model = AutoModelForQuestionAnswering.from_pretrained(args.model_dir)
    train, dev = (run_qa_questions([path]) for path in args.data_files)
    trainer = Trainer(
        model=model,
        args=trainer_flags(args, num_train_epochs=1, seed=42),
        train_dataset=run_qa_map(tokenizer, train, run_qa_train_features),
        processing_class=tokenizer,
        data_collator=default_data_collator,
    )
    trainer.train()
    trainer.save_model()
    features = run_qa_map(tokenizer, dev, run_qa_dev_features)
    logits = trainer.predict(features.remove_columns(["example_id", "offset_mapping"])).predictions
    run_qa_postprocess(dev, features, logits, args.work_dir)
    predictions = json.loads((args.work_dir / "run_qa_predictions.json").read_text())
    examples = [SimpleNamespace(qas_id=q["id"], answers=[{"text": t} for t in q["answers"]["text"]]) for q in dev]
    print(dict(squad_metrics.squad_evaluate(examples, predictions)))


TASKS = {
    "windows": legacy_windows,
    "decoding": legacy_decoding,
    "run_qa_windows": run_qa_windows,
    "run_qa_decoding": run_qa_decoding,
    "step": legacy_step,
    "trainer_step": trainer_step,
    "legacy_script": legacy_script,
    "trainer_script": trainer_script,
}

if __name__ == "__main__":
    main()
