"""Fine-tune a BERT-type model on SQuAD v1.1 or v2.0 files, predict, and score with the official metric.

    python run_squad.py --model_type bert --model_name_or_path bert-base-multilingual-cased --do_train --do_eval \\
        --train_file nl_squadv2_train_clean.json --predict_file nl_squadv2_dev_clean.json \\
        --num_train_epochs 2 --max_seq_length 384 --doc_stride 128 --save_steps=8000 \\
        --output_dir output --overwrite_cache --overwrite_output_dir
    python run_squad.py --model_name_or_path output --question "…" --context "…"

Reads SQuAD JSON and a model (hub name or folder). Writes to output_dir: model, tokenizer, predictions_.json,
nbest_predictions_.json, null_odds_.json, results_.json, README.md (a model card) and checkpoint-N folders;
TensorBoard logs go to runs/.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import logging
import math
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from evaluate_v2 import best_thresholds, markdown_table, score_answers, squad_evaluate
from squadlib.console import (
    EXIT_OK,
    EXIT_USAGE,
    SquadError,
    exit_with_faults,
    garbage_collector_off,
    logger,
    progress_bar,
    run_and_exit,
    script_main,
    setup_logging,
    torch_errors_explained,
)
from squadlib.data import (
    AVERAGE,
    OFFICIAL_NAMES,
    Example,
    distinct_files,
    has_unanswerable,
    load_examples,
    named_files,
    read_questions,
)
from squadlib.files import LOCK_FILE, check_output_dir, decode, read_bytes, read_json, write_json

if TYPE_CHECKING:
    from squadlib.training.evaluation import Outcome
    from squadlib.training.fine_tuning import FineTuning

NO_FLAGS = """\
run_squad.py: error: no flags were given.
If you pasted the published command: its first line lacks the backslash at the end, so the shell ran this script alone.
Put a backslash after `run_squad.py`, or paste this:

    python run_squad.py \\
      --model_type bert --model_name_or_path bert-base-multilingual-cased --do_train --do_eval \\
      --train_file $SQUAD_DIR/nl_squadv2_train_clean.json --predict_file $SQUAD_DIR/nl_squadv2_dev_clean.json \\
      --num_train_epochs 2 --max_seq_length 384 --doc_stride 128 --save_steps=8000 \\
      --output_dir ../../output --overwrite_cache --overwrite_output_dir

`python run_squad.py --help` lists all flags.
"""
ANSWER_FLAGS = {  # flag: option of utils_squad.pipeline, whose default holds where the flag is not given
    "max_seq_length": "max_seq_len",
    "max_query_length": "max_question_len",
    "max_answer_length": "max_answer_len",
    "n_best_size": "top_k",
    "per_gpu_eval_batch_size": "batch_size",
    "version_2_with_negative": "handle_impossible_answer",
}
ANSWER_BLOCK = 256  # questions between two answers on standard output

Group = argparse._ArgumentGroup
T = TypeVar("T")


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """The 45 flags of the last legacy script under their old names, modern spellings, and a few of our own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_model_flags(parser.add_argument_group("model"))
    add_data_flags(parser.add_argument_group("data"))
    add_task_flags(parser.add_argument_group("task"))
    defaults = "where not given: --max_answer_length 15, --n_best_size 1, 4 windows in a batch on a CPU and 32 on a GPU"
    add_answer_flags(parser.add_argument_group("answering to standard output, with a fine-tuned model", defaults))
    add_optimisation_flags(parser.add_argument_group("optimisation"))
    add_output_flags(parser.add_argument_group("output and logging"))
    add_device_flags(parser.add_argument_group("device"))
    group = parser.add_argument_group("debugging")
    group.add_argument("--server_ip", default="", metavar="IP", help="wait for a debugger (debugpy) at this address")
    group.add_argument("--server_port", default="", metavar="PORT", help="port of that debugger")
    return parser


def add_model_flags(group: Group) -> None:
    group.add_argument("--model_type", metavar="TYPE", help="bert, roberta, distilbert, …: the type of the model")
    group.add_argument("--model_name_or_path", metavar="NAME", help="hub name or folder; a checkpoint-N folder resumes")
    group.add_argument("--config_name", default="", metavar="NAME", help="configuration, if not the model's own")
    group.add_argument("--tokenizer_name", default="", metavar="NAME", help="tokenizer, if not the model's own")
    group.add_argument("--cache_dir", default="", metavar="DIR", help="where downloaded models are kept")
    group.add_argument(
        "--do_lower_case",
        action="store_true",
        default=None,
        help="lower-case the text (default: the tokenizer's own way)",
    )


def add_data_flags(group: Group) -> None:
    group.add_argument("--data_dir", default="", metavar="DIR", help="folder of the files (default names: *-v2.0.json)")
    group.add_argument("--train_file", nargs="+", metavar="FILE", help="SQuAD JSON to train on, one file or several")
    group.add_argument(
        "--predict_file",
        nargs="+",
        metavar="FILE",
        help="SQuAD JSON to predict and score; several, also as NAME=FILE, get files and scores of their own",
    )
    group.add_argument(
        "--sampling_temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="of several training files an epoch takes windows in the ratio size^(1/T) (1: all as they come)",
    )
    group.add_argument("--max_seq_length", type=int, default=384, metavar="N", help="tokens of a window (384)")
    group.add_argument("--doc_stride", type=int, default=128, metavar="N", help="tokens between window starts (128)")
    group.add_argument("--max_query_length", type=int, default=64, metavar="N", help="tokens kept of a question (64)")
    group.add_argument("--overwrite_cache", action="store_true", help="accepted; there is no feature cache any more")
    group.add_argument("--threads", type=int, default=1, metavar="N", help="accepted; windows need no process pool")


def add_task_flags(group: Group) -> None:
    group.add_argument("--do_train", action="store_true", help="fine-tune on --train_file")
    group.add_argument("--do_eval", action="store_true", help="predict and score --predict_file")
    group.add_argument("--evaluate_during_training", action="store_true", help="score at every logging step too")
    group.add_argument("--eval_all_checkpoints", action="store_true", help="score every checkpoint-N of output_dir too")
    group.add_argument(
        "--calibrate",
        action="store_true",
        help="with --do_eval: fit what pipeline's scores are worth on half of the questions; calibration.json beside "
        "the model",
    )
    group.add_argument(
        "--version_2_with_negative",
        action="store_true",
        default=None,
        help="questions may be unanswerable (default: yes when the data has a question with is_impossible)",
    )
    group.add_argument(
        "--no_version_2_with_negative",
        dest="version_2_with_negative",
        action="store_false",
        help="always predict an answer, as for SQuAD v1.1",
    )
    group.add_argument(
        "--null_score_diff_threshold",
        type=float,
        default=0.0,
        metavar="X",
        help='answer "" when the null odds are above X (0)',
    )
    group.add_argument("--n_best_size", type=int, default=20, metavar="N", help="answers kept a question (20)")
    group.add_argument("--max_answer_length", type=int, default=30, metavar="N", help="tokens of an answer (30)")
    group.add_argument("--lang_id", type=int, default=0, help="accepted; only XLM models of 2019 used it")
    group.add_argument("--verbose_logging", action="store_true", help="log debug messages")


def add_answer_flags(group: Group) -> None:
    group.add_argument(
        "--do_predict",
        action="store_true",
        help="answer --predict_file without scoring: SQuAD JSON into output_dir, or *.jsonl (- for standard input) "
        'with {"question", "context"} a line to stdout',
    )
    group.add_argument("--question", metavar="TEXT", help="answer this from the context; a line of JSON on stdout")
    group.add_argument("--context", metavar="TEXT", help="text that may hold the answer to --question")
    group.add_argument("--context_file", metavar="FILE", help="the same from a text file (- for standard input)")
    group.add_argument("--no_calibration", action="store_true", help="leave the model's calibration.json out")


def add_optimisation_flags(group: Group) -> None:
    for phase in ("train", "eval"):
        group.add_argument(
            f"--per_gpu_{phase}_batch_size",
            f"--per_device_{phase}_batch_size",
            type=int,
            default=8,
            metavar="N",
            help="windows in a batch on each device (8); lower it if memory runs out",
        )
    group.add_argument("--learning_rate", type=float, default=5e-5, metavar="X", help="peak learning rate (5e-5)")
    group.add_argument("--gradient_accumulation_steps", type=int, default=1, metavar="N", help="batches an update (1)")
    group.add_argument("--weight_decay", type=float, default=0.0, metavar="X", help="AdamW weight decay (0)")
    group.add_argument(
        "--attention_dropout",
        type=float,
        metavar="X",
        help="dropout of attention weights (default: the model's own, 0.1 of BERT)",
    )
    group.add_argument("--adam_epsilon", type=float, default=1e-8, metavar="X", help="AdamW epsilon (1e-8)")
    group.add_argument("--max_grad_norm", type=float, default=1.0, metavar="X", help="gradients are clipped to it (1)")
    group.add_argument("--num_train_epochs", type=float, default=3.0, metavar="X", help="passes over the data (3)")
    group.add_argument("--max_steps", type=int, default=-1, metavar="N", help="updates; > 0 overrides the epochs")
    group.add_argument("--warmup_steps", type=int, default=0, metavar="N", help="updates of linear warm-up (0)")
    group.add_argument("--seed", type=int, default=42, metavar="N", help="seed of weights, order and dropout (42)")
    group.add_argument(
        "--pad_to_max_length",
        action="store_true",
        help="the 2020 arithmetic to the bit: padding to max_seq_length, plain AdamW; several times slower",
    )


def add_output_flags(group: Group) -> None:
    group.add_argument("--output_dir", metavar="DIR", help="folder for model, predictions and checkpoints")
    group.add_argument("--overwrite_output_dir", action="store_true", help="train into a folder that has files")
    group.add_argument("--resume", action="store_true", help="go on from the newest valid checkpoint in output_dir")
    group.add_argument("--logging_steps", type=int, default=500, metavar="N", help="log a point every N updates (500)")
    group.add_argument("--save_steps", type=int, default=500, metavar="N", help="save every N updates (500); 0: never")
    group.add_argument("--save_total_limit", type=int, default=0, metavar="N", help="checkpoints to keep; 0: all")
    group.add_argument("--card_license", metavar="ID", help="licence named in the model card, e.g. apache-2.0")
    group.add_argument(
        "--cleaning_report",
        metavar="FILE",
        help="clean_squad.py's --report_file, for the model card (default: <train_file without .json>_report.json)",
    )


def add_device_flags(group: Group) -> None:
    group.add_argument("--no_cuda", action="store_true", help="stay on the CPU")
    group.add_argument("--bf16", action="store_true", help="bfloat16 mixed precision (recent GPUs and CPUs)")
    group.add_argument("--fp16", action="store_true", help="float16 mixed precision (GPUs)")
    group.add_argument("--fp16_opt_level", default="O1", help="accepted; it belonged to apex")
    group.add_argument("--tf32", action="store_true", help="TF32 matrix products on GPUs that have them")
    group.add_argument("--local_rank", "--local-rank", type=int, default=-1, help="set by torch's launchers")


def check_args(args: argparse.Namespace) -> list[str]:
    """Every fault of the flags, each as one sentence; [] when all is well. Derived names are not written back."""
    faults = check_answering(args) if args.do_predict or args.question is not None else check_task(args)
    positive = "max_seq_length doc_stride max_query_length n_best_size max_answer_length per_gpu_train_batch_size"
    for flag in f"{positive} per_gpu_eval_batch_size gradient_accumulation_steps".split():
        if getattr(args, flag) < 1:
            faults.append(f"--{flag} {getattr(args, flag)} must be at least 1")
    faults += check_encoding(args) + check_files(args) + check_ranges(args)
    faults += check_window_flags(args) + check_output_folder(args)
    if args.bf16 and args.fp16:
        faults.append("--bf16 and --fp16 exclude each other; take --bf16 where the device has it")
    if bool(args.server_ip) != bool(args.server_port):
        faults.append("--server_ip and --server_port belong together")
    return faults


def check_task(args: argparse.Namespace) -> list[str]:
    """Faults of a run that trains or evaluates."""
    faults = [f"--{f} is required" for f in ("model_type", "model_name_or_path", "output_dir") if not getattr(args, f)]
    if not args.do_train and not args.do_eval:
        faults.append("nothing to do: give --do_train, --do_eval or both, or --do_predict, or --question")
    if args.do_train and not (any(args.train_file or []) or args.data_dir):
        faults.append("--do_train needs --train_file (or --data_dir with train-v2.0.json)")
    scoring = "--do_eval" if args.do_eval else args.evaluate_during_training and "--evaluate_during_training"
    if scoring and not (any(args.predict_file or []) or args.data_dir):
        faults.append(f"{scoring} needs --predict_file (or --data_dir with dev-v2.0.json)")
    if args.context is not None or args.context_file:
        faults.append("--context needs a --question")
    faults += check_calibration(args)
    if args.cleaning_report and not os.path.isfile(args.cleaning_report):
        faults.append(f"--cleaning_report {args.cleaning_report} is not there; name clean_squad.py's --report_file")
    return faults


def check_calibration(args: argparse.Namespace) -> list[str]:
    """Faults of --calibrate, which is fitted on what is scored and written beside the model."""
    if not args.calibrate:
        return []
    faults = [] if args.do_eval else ["--calibrate is fitted on the scored questions; add --do_eval"]
    folder = args.model_name_or_path
    if not args.do_train and folder and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        faults.append(
            f"--calibrate writes beside the model, and {folder} is not a folder that can be written to; copy the model "
            "into one"
        )
    return faults


def check_answering(args: argparse.Namespace) -> list[str]:
    """Faults of a run that answers without scoring: one --question, or the --predict_file of --do_predict."""
    faults = [] if args.model_name_or_path else ["--model_name_or_path is required"]
    if args.do_train or args.do_eval or args.calibrate:
        faults.append("--do_predict and --question answer without scoring; give them without --do_train and --do_eval")
    if args.question is None:
        if args.context is not None or args.context_file:
            faults.append("--context needs a --question")
        if not any(args.predict_file or []):
            faults.append("--do_predict needs --predict_file: SQuAD JSON, or *.jsonl or - with JSON lines")
        elif answers_to_stdout(args) and len(args.predict_file) > 1:
            faults.append("--do_predict answers one file of JSON lines at a time")
        elif not answers_to_stdout(args) and not args.output_dir:
            faults.append("--do_predict of a SQuAD file needs --output_dir for its predictions")
        return faults
    if args.do_predict:
        faults.append("--question and --do_predict exclude each other")
    if (args.context is None) == (not args.context_file):
        faults.append("--question needs one of --context and --context_file")
    if not args.question.strip() or args.context == "":
        faults.append("--question and --context must not be empty")
    return faults


def check_files(args: argparse.Namespace) -> list[str]:
    """Faults of the lists of files: two of one name, one that is given twice."""
    faults = []
    for flag, find in ("--train_file", train_files), ("--predict_file", predict_files):
        try:
            find(args)
        except SquadError as error:
            faults.append(f"{flag}: {error}")
    return faults


def check_encoding(args: argparse.Namespace) -> list[str]:
    texts = [
        (flag, text)
        for flag, value in vars(args).items()
        for text in (value if isinstance(value, list) else [value])
        if isinstance(text, str)
    ]
    odd = [(flag, value) for flag, value in texts if value != value.encode(errors="replace").decode()]
    return [f"--{flag} {value!r} is not UTF-8, which model card and logs are; give it in UTF-8" for flag, value in odd]


def check_ranges(args: argparse.Namespace) -> list[str]:
    faults = []
    for flag in ("learning_rate", "adam_epsilon", "max_grad_norm", "num_train_epochs"):
        if not 0 < getattr(args, flag) < math.inf:
            faults.append(f"--{flag} {getattr(args, flag)} must be a number above 0")
    for flag in ("weight_decay", "warmup_steps", "save_total_limit", "seed"):
        if not 0 <= getattr(args, flag) < math.inf:
            faults.append(f"--{flag} {getattr(args, flag)} must not be negative")
    if args.attention_dropout is not None and not 0 <= args.attention_dropout < 1:
        faults.append(f"--attention_dropout {args.attention_dropout} must be a number from 0 to below 1")
    if not 1 <= args.sampling_temperature < math.inf:
        faults.append(f"--sampling_temperature {args.sampling_temperature} must be a number of at least 1")
    if args.seed >= 2**63:
        faults.append(f"--seed {args.seed} is too large; use a number below 2^63")
    if math.isnan(args.null_score_diff_threshold):
        faults.append("--null_score_diff_threshold nan is not a number")
    return faults


def check_window_flags(args: argparse.Namespace) -> list[str]:
    """BERT's 3 special tokens are counted; RoBERTa types have 4, which the windows themselves look at."""
    room = window_room(args)
    if room < 1:
        return [
            f"--max_seq_length {args.max_seq_length} leaves no room for the context beside a question of "
            f"{args.max_query_length} tokens and 3 specials; raise it or lower --max_query_length"
        ]
    if args.doc_stride > room:
        return [
            f"--doc_stride {args.doc_stride} leaves gaps: a window holds "
            f"{args.max_seq_length}-{args.max_query_length}-3 = {room} context tokens; use at most {room}"
        ]
    return []


def window_room(args: argparse.Namespace) -> int:
    """Context tokens of a window beside the longest question and BERT's special tokens."""
    return args.max_seq_length - args.max_query_length - 3


def check_output_folder(args: argparse.Namespace) -> list[str]:
    folder: str | None = args.output_dir
    faults: list[str] = []
    if not folder:
        return []
    check_output_dir(folder, faults)
    if faults:
        return faults
    in_use = os.path.isdir(folder) and set(os.listdir(folder)) - {LOCK_FILE}
    if args.do_train and in_use and not (args.overwrite_output_dir or args.resume):
        return [f"--output_dir {folder} has files; add --overwrite_output_dir to train into it, or --resume to go on"]
    return []


# ---------------------------------------------------------------------------------------------------------------------
# What the flags mean
# ---------------------------------------------------------------------------------------------------------------------


def answers_to_stdout(args: argparse.Namespace) -> bool:
    """Whether this is one --question or a file of JSON lines: no output_dir is needed."""
    lines = any(name == "-" or name.endswith((".jsonl", ".ndjson")) for name in args.predict_file or [])
    return args.question is not None or (args.do_predict and lines)


def given_files(args: argparse.Namespace, training: bool) -> list[str]:
    """--train_file or --predict_file as they were given, else the official name."""
    given = list(filter(None, (args.train_file if training else args.predict_file) or []))
    names = OFFICIAL_NAMES[args.version_2_with_negative is not False]
    return given or [names[0 if training else 1]]


def train_files(args: argparse.Namespace) -> list[str]:
    return distinct_files([os.path.join(args.data_dir, name) for name in given_files(args, True)])


def predict_files(args: argparse.Namespace) -> dict[str, str]:
    """Name -> path; see `named_files`."""
    return named_files(given_files(args, False), args.data_dir)


def answers_may_be_empty(args: argparse.Namespace, files: dict[str, list[Example]]) -> bool:
    """--version_2_with_negative; where it is not given: for new questions as in training, else as the data is."""
    if args.version_2_with_negative is not None:
        return args.version_2_with_negative
    trained = os.path.join(args.model_name_or_path, "training_args.json")
    if args.do_predict and os.path.isfile(trained):
        with_null = bool(read_json(trained).get("version_2_with_negative"))
        logger.info("%s: --version_2_with_negative is %s, as in training", trained, "on" if with_null else "off")
        return with_null
    return has_unanswerable(files)


def one_or_all(values: list[str] | None) -> str | list[str] | None:
    """A single file as text, as training_args.json had it when there could be no other."""
    return values[0] if values and len(values) == 1 else values


def answer_options(argv: list[str]) -> dict[str, Any]:
    """Options of the pipeline from the flags that were given."""
    parser = build_parser()
    parser.set_defaults(doc_stride=None, **dict.fromkeys(ANSWER_FLAGS))
    given = parser.parse_args(argv)
    options = {option: getattr(given, flag) for flag, option in ANSWER_FLAGS.items()}
    options["window_step"] = given.doc_stride
    return options


def settings(kind: type[T], flags: dict[str, Any]) -> T:
    """A dataclass of settings, whose fields have the names of flags."""
    return kind(**{name: flags[name] for name in inspect.signature(kind).parameters})


def wait_for_debugger(ip: str, port: str) -> None:
    if not ip:
        return
    try:
        import debugpy
    except ImportError as error:
        raise SquadError("--server_ip needs the package debugpy: pip install debugpy") from error
    debugpy.listen((ip, int(port)))
    logger.info("waiting for a debugger at %s:%s", ip, port)
    debugpy.wait_for_client()


def score(outcome: Outcome, with_null: bool) -> dict[str, float]:
    """The results dict of the 2020 script; real thresholds, from the null odds, are logged beside it."""
    golds = outcome.golds
    results = squad_evaluate(golds, outcome.predictions)
    if with_null:
        best = best_thresholds(golds, outcome.best_answers, outcome.null_odds)
        logger.info("Thresholds on the null odds (--null_score_diff_threshold): %s", best)
    return results


# ---------------------------------------------------------------------------------------------------------------------
# The run
# ---------------------------------------------------------------------------------------------------------------------


def answer(args: argparse.Namespace, argv: list[str]) -> int:
    """Answer as utils_squad.pipeline does: its dict as one line of JSON a question, the question's id in front."""
    if args.question is not None:
        context = args.context if args.context is not None else decode(read_bytes(args.context_file), args.context_file)
        records = [{"question": args.question, "context": context}]
    else:
        records = read_questions("-" if "-" in args.predict_file else next(iter(predict_files(args).values())))
    with garbage_collector_off():
        from squadlib.model.answering import pipeline
        from squadlib.model.calibration import load_calibration
        from squadlib.model.loading import load_config_and_tokenizer, load_model

        parts = args.config_name, args.tokenizer_name, args.model_type, args.do_lower_case, args.cache_dir
        config, tokenizer = load_config_and_tokenizer(args.model_name_or_path, *parts)
        model = load_model(args.model_name_or_path, config, cache_dir=args.cache_dir)
        calibration = None if args.no_calibration else load_calibration(args.model_name_or_path, model)
    device = "cpu" if args.no_cuda else None
    qa = pipeline(model=model, tokenizer=tokenizer, device=device, calibration=calibration, **answer_options(argv))
    with progress_bar(total=len(records), unit="question", desc="Answering") as bar:
        for first in range(0, len(records), ANSWER_BLOCK):
            block = records[first : first + ANSWER_BLOCK]
            for record, found in zip(block, qa(block), strict=True):
                answers = found if isinstance(found, dict) else {"answers": found}
                named = {"id": record["id"]} if "id" in record else {}
                print(json.dumps({**named, **answers}, ensure_ascii=False), flush=True)
            bar.update(len(block))
    return EXIT_OK


def run(args: argparse.Namespace, argv: list[str], stack: contextlib.ExitStack) -> int:
    """Load, train, save, predict, score, report. stack: holds the lock on output_dir until all is written."""
    training_data = {path: load_examples(path, True) for path in train_files(args)} if args.do_train else {}
    wants_dev = args.do_eval or args.evaluate_during_training or args.do_predict
    dev_files = predict_files(args) if wants_dev else {}
    required = not args.do_predict
    dev_data = {path: load_examples(path, False, answers_required=required) for path in dev_files.values()}
    flags = {
        **vars(args),
        "train_file": one_or_all(args.train_file),
        "predict_file": one_or_all(args.predict_file),
        "version_2_with_negative": answers_may_be_empty(args, dev_data or training_data),
    }

    with garbage_collector_off():
        from squadlib.model.decoding import DecodingSettings
        from squadlib.model.windows import WindowSettings, make_training_windows, make_windows
        from squadlib.training import calibration, fine_tuning, model_card
        from squadlib.training.checkpoints import locked_output_dir
        from squadlib.training.evaluation import Evaluation
        from squadlib.training.plan import TrainingSettings
        from squadlib.training.processes import start_processes

        processes = start_processes(args.local_rank, args.no_cuda)
        facts = fine_tuning.log_start(argv, processes, args.seed)
        if processes.is_main:
            stack.enter_context(locked_output_dir(args.output_dir))
        loading = settings(fine_tuning.ModelSettings, flags)
        runner, tokenizer, checkpoint = fine_tuning.load_start(loading, processes)

    evaluations, training, results = [], None, {}
    sizes, decoding = settings(WindowSettings, flags), settings(DecodingSettings, flags)
    for name, path in dev_files.items():
        windows = make_windows(dev_data[path], tokenizer, **vars(sizes))
        batch_size = args.per_gpu_eval_batch_size
        evaluations.append(
            Evaluation(windows, tokenizer, decoding, batch_size, processes, args.output_dir, score, name)
        )
    articles = calibration.choose_articles(evaluations) if args.calibrate else []
    if args.do_train:
        windows = make_training_windows(training_data, tokenizer, sizes)
    all_windows = [windows, *(evaluation.windows for evaluation in evaluations)]
    fine_tuning.agree_on_work(all_windows, flags, processes)
    fine_tuning.agree_on_layout(runner, windows, processes)
    if args.do_train:
        training_settings = settings(TrainingSettings, flags)
        training = fine_tuning.FineTuning(training_settings, runner, windows, tokenizer, processes, flags)
        training.run(checkpoint, facts, evaluations)
    if args.do_eval:
        others = fine_tuning.score_checkpoints(evaluations, loading) if args.eval_all_checkpoints else {}
        outcomes = {evaluation.name: evaluation.run(runner) for evaluation in evaluations}
        trust = None
        if args.calibrate:
            metric = calibration.Metric(score_answers, best_thresholds)
            trust = calibration.calibrate(runner, evaluations, articles, metric)
        if trust:
            outcomes = calibration.with_figures(outcomes, trust)
            trust.save(args.output_dir if training else args.model_name_or_path, runner.model)
        results = report(others, outcomes, args.output_dir, training)
        if trust:
            fine_tuning.log_calibration(trust, outcomes, facts, training)
    if training and processes.is_main:
        card = settings(model_card.CardSettings, flags)
        table = training.files_table()
        text = model_card.model_card(card, facts, runner.model, training_data, dev_data, results, markdown_table, table)
        model_card.write_card(args.output_dir, text)
        training.finish({name: scores for name, scores in results.items() if name != AVERAGE})
    for evaluation in evaluations if args.do_predict else []:
        evaluation.predict(runner)
        logger.info("Saved %s", os.path.join(args.output_dir, f"predictions_{evaluation.name}.json"))
    processes.leave()
    return EXIT_OK


def report(
    others: dict[str, dict[str, float]],
    outcomes: dict[str, Outcome],
    output_dir: str,
    training: FineTuning | None,
) -> dict[str, dict[str, float]]:
    """Write, print and log the scores. others: of checkpoints. Returns those of the model itself, by name of the file.

    One file without a name has its results alone; others have theirs under their names, with the mean behind them.
    """
    from squadlib.training.evaluation import average

    own = {name: outcome.results for name, outcome in outcomes.items()}
    if any(own.values()):  # rank 0 has them
        results = {name: others.get(name, {}) | scores for name, scores in own.items()}
        for name, scores in results.items():
            write_json(os.path.join(output_dir, f"results_{name}.json"), scores)
        if "" not in results:
            own, results = ({**part, AVERAGE: average(part)} for part in (own, results))
            write_json(os.path.join(output_dir, "results_.json"), results)
            logger.info("Results of each file:\n%s", markdown_table(own))
        shown = results.get("", results)
        logger.info("Results: %s", shown)
        print(json.dumps(shown))
    if training:
        training.log_evaluation(outcomes)
    return own


@script_main
def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        sys.stderr.write(NO_FLAGS)
        return EXIT_USAGE
    parser = build_parser()
    args = parser.parse_args(argv)
    exit_with_faults(parser, check_args(args))
    level = logging.DEBUG if args.verbose_logging else logging.INFO
    setup_logging("run_squad", level if os.environ.get("RANK", "0") == "0" else logging.ERROR)  # one process tells
    # A second thread that spins for work makes a busy machine twenty times slower; waiting passively costs nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # must stand before torch is imported
    wait_for_debugger(args.server_ip, args.server_port)
    with contextlib.ExitStack() as stack, torch_errors_explained():
        return answer(args, argv) if answers_to_stdout(args) else run(args, argv, stack)


if __name__ == "__main__":
    run_and_exit(main)
