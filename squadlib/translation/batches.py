"""Work through an engine that neither blocks nor mixes strings up, in batches."""

from __future__ import annotations

import math
import random

from squadlib.console import SquadError, is_out_of_memory, logger, progress_bar
from squadlib.translation.cache import Cache
from squadlib.translation.checks import translation_fault
from squadlib.translation.engines import LocalBackend

# Rows × tokens of a batch, whose memory grows with them; a string has num_beams rows.
CPU_TOKENS, GPU_TOKENS = 4_096, 65_536
ROW_TOKENS = 32  # what a row counts for beside its tokens: its scores of the whole vocabulary take memory too


def translate_in_batches(
    backend: LocalBackend, cache: Cache, strings: list[str], batch_size: int | None
) -> dict[str, str]:
    """Put the translations into the cache, every batch at once. Returns the reason for every string that has none.

    batch_size: strings; None: as many as CPU_TOKENS or GPU_TOKENS allow.
    """
    missing: dict[str, str] = {}
    lengths = dict(zip(strings, backend.num_tokens(strings), strict=True))
    most_tokens = math.inf if batch_size else (GPU_TOKENS if backend.on_gpu else CPU_TOKENS) / backend.num_beams
    batches = make_batches(strings, lengths, most_tokens, batch_size)
    with progress_bar(total=len(strings), unit="string") as bar:
        while batches:
            batch = batches.pop()
            known = cache.get(batch)
            bar.update(len(known))
            batch = [string for string in batch if string not in known]
            try:
                targets = dict(zip(batch, backend.translate(batch), strict=True)) if batch else {}
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                longest = max(lengths[string] for string in batch)
                if len(batch) == 1:
                    raise SquadError(
                        f"memory ran out at a single string of {longest} tokens, {batch[0][:60]!r}; lower --num_beams, "
                        "take --fp16 or --bf16, or stay on the CPU with --no_cuda"
                    ) from error
                logger.warning("memory ran out at %d strings of up to %d tokens; halves from here", len(batch), longest)
                most_tokens = batch_tokens(len(batch), longest) / 2
                waiting = [string for other in (*batches, batch) for string in other]
                batches = make_batches(waiting, lengths, most_tokens, batch_size)
                continue
            faults = {s: fault for s, t in targets.items() if (fault := translation_fault(s, t, cache.target_lang))}
            cache.put({source: target for source, target in targets.items() if source not in faults})
            missing.update(faults)
            bar.update(len(batch))
    return missing


def make_batches(
    strings: list[str], lengths: dict[str, int], most_tokens: float, most_strings: int | None
) -> list[list[str]]:
    """Batches of strings of like length, in random order. lengths: in tokens. A string above most_tokens is alone."""
    batches: list[list[str]] = [[]]
    for string in sorted(strings, key=lengths.__getitem__):  # equal lengths together: little time goes into padding
        size = len(batches[-1])
        if size and (size == most_strings or batch_tokens(size + 1, lengths[string]) > most_tokens):
            batches.append([])
        batches[-1].append(string)
    random.shuffle(batches)  # a believable ETA, and two processes on one cache seldom meet
    return batches


def batch_tokens(num_strings: int, longest: int) -> int:
    """What a batch counts for, a beam. longest: tokens of its longest string."""
    return num_strings * (longest + ROW_TOKENS)
