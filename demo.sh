#!/usr/bin/env bash
# The whole recipe on a small sample: translate, clean, fine-tune, evaluate.
#
#   bash demo.sh         make .venv, install, run the four scripts on sample/ (results in demo_output/)
#   bash demo.sh test    run the test suite in the same environment
#   bash demo.sh lint    check style, format and types
#
# Needs Python 3.11 or newer (set PYTHON to choose one) and a package index that pip can reach.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
TORCH_CPU="torch==2.13.*"  # without a GPU: of the range in requirements.txt, what was run most
TEST_TOOLS=("pytest>=8" "ruff==0.17.*" "mypy==2.4.*")  # pinned where a new release finds other faults
EXPECTED_EXACT=90  # of 100; every seed tried gave 100

say() { printf '\n== %s\n' "$*"; }
die() { printf 'demo.sh: error: %s\n' "$*" >&2; exit 1; }
run() { { printf '$'; printf ' %q' "$@"; echo; } >&2; "$@"; }  # to stderr, because some results are piped

pip_install() {
  if [ -t 1 ]; then set -- --progress-bar on "$@"; else set -- -qq "$@"; fi  # a log is no place for progress bars
  run python -m pip install "$@"
}

find_python() {
  local candidate candidates=(python3 python3.14 python3.13 python3.12 python3.11 python)
  if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.11 or newer with venv was found; install one (Debian, Ubuntu: apt install python3-venv)," \
    "or name it: PYTHON=/path/to/python bash demo.sh"
}

# Packages go into .venv, never beside the system's own. A copy of the requirements is left there after a complete
# installation: as long as it is the same, nothing is installed again.
install() {
  local done_file=.venv/installed-requirements.txt python
  if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(find_python)
    say "Making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
  fi
  export PATH="$PWD/.venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
  cmp -s requirements.txt "$done_file" && return
  say "Installing requirements.txt (a few minutes the first time)"
  rm -f "$done_file"
  prefer_cpu_torch
  pip_install --requirement requirements.txt || die "pip could not install; its message is above"
  cp requirements.txt "$done_file"
}

# Without a GPU the CUDA build of torch would be several GB of dead weight. One quick try at PyTorch's own index; where
# it cannot be reached, pip's configuration may know a CPU build of the same version.
prefer_cpu_torch() {
  if [ "$(uname -s)" != Linux ] || nvidia-smi -L >/dev/null 2>&1; then return; fi
  pip_install --no-deps --retries 0 --timeout 5 --index-url "$TORCH_CPU_INDEX" "$TORCH_CPU" ||
    { echo "not to be had there; going on without" && pip_install "$TORCH_CPU"; }
}

install_tools() {
  [ -x .venv/bin/pytest ] && [ -x .venv/bin/ruff ] && [ -x .venv/bin/mypy ] && return
  pip_install "${TEST_TOOLS[@]}"
}

demo() {
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # so small a model is faster on one thread
  rm -rf demo_output
  mkdir demo_output
  cd demo_output
  say "The commands below run in demo_output/, with .venv/bin first in PATH."

  say "1/4  Translate the English sample. A translation memory stands in for the web page, so no network is needed."
  run python ../translate_squad.py --input_file ../sample/sample-v2.0.json --output_file nl_sample.json \
    --backend memory --memory_file ../sample/memory_en_nl.jsonl

  say "2/4  Clean: find the answers again in the Dutch contexts. The table says how many literal search would have kept."
  run python ../clean_squad.py --input_file nl_sample.json --output_file nl_sample_clean.json

  say "3/4  Fine-tune, with the documented flags. A tiny random BERT, made on the spot, bears the name of the real one."
  echo "It cannot read Dutch, but it can learn the sample by heart. So it gets more epochs and a higher learning rate"
  echo "than a real model needs, and is scored on what it was trained on."
  run python ../sample/make_tiny_bert.py --data_file nl_sample_clean.json --output_dir bert-base-multilingual-cased
  run python ../run_squad.py --model_type bert --model_name_or_path bert-base-multilingual-cased --do_train --do_eval \
    --train_file nl_sample_clean.json --predict_file nl_sample_clean.json --num_train_epochs 30 --learning_rate 2e-3 \
    --max_seq_length 384 --doc_stride 128 --logging_steps 10 --save_steps=8000 --output_dir output --overwrite_cache \
    --overwrite_output_dir

  say "4/4  Evaluate, as the official script does."
  run python ../evaluate_v2.py nl_sample_clean.json output/predictions_.json | tee evaluation.json
  check_score

  say "Done. Where to look next"
  cat <<'TEXT'
  demo_output/nl_sample_clean.json                 the Dutch SQuAD file
  demo_output/output/predictions_.json             the answers; nbest_predictions_.json has the runners-up
  .venv/bin/tensorboard --logdir demo_output/runs  loss, learning rate and scores as curves
  README.md                                        the same commands for the real data and a real model
TEXT
}

check_score() {
  python - "$EXPECTED_EXACT" <<'PYTHON' || die "the sample was not learnt by heart; please report the output above"
import json, sys
exact, expected = json.load(open("evaluation.json", encoding="utf-8"))["exact"], float(sys.argv[1])
print(f"exact {exact:.1f}, expected at least {expected:.1f}")
sys.exit(exact < expected)
PYTHON
}

[ $# -le 1 ] || die "one word at most: bash demo.sh [test|lint]"
case "${1:-demo}" in
  demo) install; demo ;;
  test) install; install_tools; export OMP_NUM_THREADS=1; run python -m pytest ;;
  lint) install; install_tools; run ruff check . && run ruff format --check . && run mypy ;;
  *) die "'$1' is not known; use: bash demo.sh [test|lint]" ;;
esac
