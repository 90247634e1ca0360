"""Work through an engine that neither blocks nor mixes strings up, in batches."""

from __future__ import annotations

import random

from squadlib.console import logger, progress_bar
from squadlib.translation.cache import Cache
from squadlib.translation.checks import translation_fault
from squadlib.translation.engines import Backend


def translate_in_batches(backend: Backend, cache: Cache, strings: list[str], batch_size: int) -> dict[str, str]:
    """Put the translations into the cache, every batch at once. Returns the reason for every string that has none."""
    missing: dict[str, str] = {}
    ordered = sorted(strings, key=len)  # equal lengths together: little time goes into padding
    batches = [ordered[first : first + batch_size] for first in range(0, len(ordered), batch_size)]
    random.shuffle(batches)  # a believable ETA, and two processes on one cache seldom meet
    with progress_bar(total=len(strings), unit="string") as bar:
        while batches:
            batch = batches.pop()
            known = cache.get(batch)
            bar.update(len(known))
            batch = [string for string in batch if string not in known]
            try:
                targets = dict(zip(batch, backend.translate(batch), strict=True)) if batch else {}
            except RuntimeError as error:
                if "out of memory" not in str(error) or len(batch) == 1:
                    raise
                logger.warning("%d strings are too many for the memory: halves; lower --batch_size", len(batch))
                batches += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                continue
            faults = {s: fault for s, t in targets.items() if (fault := translation_fault(s, t, cache.target_lang))}
            cache.put({source: target for source, target in targets.items() if source not in faults})
            missing.update(faults)
            bar.update(len(batch))
    return missing
