#!/usr/bin/env bash
# Run the whole suite with the oldest and the newest packages that requirements.txt allows, each in an environment of its
# own under .versions/, and print a table of what passed.
#
#   bash tests/versions.sh                                   the two ends of the range
#   bash tests/versions.sh 3.12:2.13.0:5.22.2 …              PYTHON:TORCH:TRANSFORMERS, as many as wanted
#
# A Python is found as python3.N on the PATH; one that is not there is a row that says so. torch comes from PyTorch's
# index of CPU builds where that can be reached, and else from pip's own.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ENDS=(3.11:2.10.0:5.20.2 3.13:2.15.0:5.24.0)
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

make_environment() { # folder python torch transformers
  "$2" -m venv "$1" || return
  "$1/bin/pip" install -qq --no-deps --retries 0 --timeout 5 --index-url "$TORCH_CPU_INDEX" "torch==$3" 2>/dev/null
  grep -vE '^(torch|transformers)\b' requirements.txt >"$1/others.txt"
  "$1/bin/pip" install -qq "torch==$3" "transformers==$4" -r "$1/others.txt" 'pytest>=8'
}

run_row() { # PYTHON:TORCH:TRANSFORMERS
  local python torch transformers folder result
  IFS=: read -r python torch transformers <<<"$1"
  folder=".versions/$python-$torch-$transformers"
  if ! command -v "python$python" >/dev/null; then
    result="no python$python here"
  elif [ ! -f "$folder/complete" ] && ! { make_environment "$folder" "python$python" "$torch" "$transformers" &&
    touch "$folder/complete"; } >"$folder.log" 2>&1; then
    result="pip could not install, see $folder.log"
  else
    OMP_NUM_THREADS=1 "$folder/bin/python" -m pytest -p no:cacheprovider >"$folder.log" 2>&1
    result=$(grep -E '[0-9]+ (passed|failed)' "$folder.log" | tail -n 1)
  fi
  echo "| $python | $torch | $transformers | $result |"
}

mkdir -p .versions
echo "| Python | torch | transformers | tests |"
echo "|---|---|---|---|"
[ $# -gt 0 ] || set -- "${ENDS[@]}"
for row in "$@"; do run_row "$row"; done
