"""LibreTranslate without the download of its sentence splitter: a text is one sentence. And without its beam search,
which a tiny model that knows a few sentences by heart leads astray.
"""

import argostranslate.sbd
import ctranslate2

argostranslate.sbd.MiniSBDSentencizer.split_sentences = lambda self, text: [text]


class Greedy(ctranslate2.Translator):
    def translate_batch(self, *args, **options):
        return super().translate_batch(*args, **{**options, "beam_size": 1})


ctranslate2.Translator = Greedy

from libretranslate import main  # noqa: E402

main()
