"""What sending the gradients adds to a step on several GPUs: computed on paper, with nothing run on a GPU.

    python benchmarks/scaling.py --backward_ms 10 100

Bytes of float32 gradients of the model's real shape, with the whole word embedding and with the rows alone that the
data uses; time of a ring all-reduce, 2 (n - 1) / n x bytes / bandwidth; and what of it is left behind the end of the
backward, as DistributedDataParallel sends: buckets of 25 MiB, one after the other, each when its last gradient is
there. Assumed: the time of the backward (--backward_ms), in which the matrices take turns by their sizes; a link that
carries its nominal rate and costs nothing to start; nothing else on it.
"""

from __future__ import annotations

import copy
import sys
from itertools import product

from common import benchmark_parser, parse_args, print_table
from our_side import load_examples, load_real_tokenizer

BUCKETS = [1 << 20, 25 << 20]  # bytes: DDP's first bucket, and all others


def gradients_in_order(config, num_embeddings):
    """[(tensor, share of the backward that is done when its gradient is there)] in the order of a real backward."""
    import torch
    from transformers import AutoModelForQuestionAnswering

    config = copy.copy(config)
    config.vocab_size = num_embeddings
    order, done = [], 0
    with torch.device("meta"):
        model = AutoModelForQuestionAnswering.from_config(config)
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(order.append)
        found = model(input_ids=torch.zeros((1, 8), dtype=torch.long))
        (found.start_logits + found.end_logits).sum().backward()
    lookups = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    work = [parameter.numel() * (parameter.dim() > 1 and id(parameter) not in lookups) for parameter in order]
    return [(tensor, (done := done + part) / sum(work)) for tensor, part in zip(order, work, strict=True)]


def buckets_of(gradients):
    """[(bytes, share of the backward that is done when it can leave)] in the order in which they leave."""
    from torch.distributed import _compute_bucket_assignment_by_size

    members, _ = _compute_bucket_assignment_by_size([tensor for tensor, _ in gradients], BUCKETS)
    return [(sum(gradients[i][0].nbytes for i in bucket), max(gradients[i][1] for i in bucket)) for bucket in members]


def left_over(buckets, gpus, bytes_per_second, backward):
    """Seconds between the end of the backward and that of the last bucket."""
    end = 0.0
    for size, ready in buckets:
        end = max(end, ready * backward) + ring(size, gpus, bytes_per_second)
    return end - backward


def ring(size, gpus, bytes_per_second):
    return 2 * (gpus - 1) / gpus * size / bytes_per_second


def main() -> int:
    parser = benchmark_parser(__doc__, questions=None)
    parser.add_argument(
        "--backward_ms", type=float, nargs="+", default=[10, 100], help="assumed, milliseconds (10 100)"
    )
    args = parse_args(parser)
    from squadlib.training.embedding_rows import rows_in_use
    from utils_squad import load_config, make_windows

    config = load_config(str(args.model_dir))
    examples = load_examples(args.data_file)[: args.questions]
    windows = make_windows(examples, load_real_tokenizer(args.model_dir), training=True)
    used = int(rows_in_use(windows, config.vocab_size).sum())
    sizes, times = [], []
    for name, count in (("all rows", config.vocab_size), ("used rows", used)):
        buckets = buckets_of(gradients_in_order(config, count))
        total, last = sum(size for size, _ in buckets), buckets[-1][0]
        share = f"{last / 1e6:.1f} MB ({last / total:.0%})"
        sizes.append((name, f"{count:,}", f"{total / 1e6:.1f} MB", len(buckets), share))
        for gbit, gpus in product((25, 200), (2, 4, 8)):
            rate = gbit * 1e9 / 8
            whole = ring(total, gpus, rate)
            left = [left_over(buckets, gpus, rate, ms / 1e3) for ms in args.backward_ms]
            cells = [f"{1e3 * rest:.1f} ({1 - rest / whole:.0%})" for rest in left]
            times.append((name, gbit, gpus, f"{1e3 * whole:.1f}", *cells))
    print_table(("embedding", "rows", "gradients", "buckets", "of it in the last one, which nothing hides"), sizes)
    print()
    header = [f"left after a backward of {ms:g} ms (hidden)" for ms in args.backward_ms]
    print_table(("embedding", "Gbit/s", "GPUs", "ring, ms", *header), times)
    return 0


if __name__ == "__main__":
    sys.exit(main())
