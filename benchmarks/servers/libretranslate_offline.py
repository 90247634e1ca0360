"""LibreTranslate without the download of its sentence splitter: a text is one sentence."""

import argostranslate.sbd

argostranslate.sbd.MiniSBDSentencizer.split_sentences = lambda self, text: [text]

from libretranslate import main  # noqa: E402

main()
