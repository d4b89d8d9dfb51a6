#!/usr/bin/env bash
# Build the wheel, install it with the same pins into an empty environment, and play the quick demo from it.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$BIN/python" -m build --wheel --no-isolation --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$BIN/uv" venv --quiet --python "$BIN/python" "$work/venv"
"$BIN/uv" pip sync --quiet --python "$work/venv/bin/python" --require-hashes "$here/requirements/run.txt"
"$BIN/uv" pip install --quiet --python "$work/venv/bin/python" --no-deps --no-index "$work"/dist/*.whl
cd "$work"
"$work/venv/bin/countermove" demo --quick --out "$work/run"
test -s "$work/run/report.html"
"$work/venv/bin/countermove" demo --quick --out "$work/run" --json >"$work/again.json"
"$work/venv/bin/python" - "$work/again.json" <<'PY'
import json, sys
again = json.load(open(sys.argv[1]))
assert again["cached"] == again["cells"] and not again["unfinished"], "the second run had work to do"
print(f"wheel: {again['cells']} cells played from it, all cached the second time")
PY
