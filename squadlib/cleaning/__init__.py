"""Finding the answers of a translated file again: used by clean_squad.py."""

import os

# The alignment multiplies many small matrices: a second thread only waits for the first, and may round differently.
# Before numpy is loaded, because its library reads this once.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
