#!/usr/bin/env bash
# Resolve requirements/*.in into pinned, hashed files that name no index.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
    "$BIN/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@"
}
compile pyproject.toml -o requirements/run.txt
compile pyproject.toml --group dev -c requirements/run.txt -o requirements/dev.txt
echo "uv" | compile - -o requirements/uv.txt
