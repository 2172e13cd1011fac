#!/usr/bin/env bash
# Installs what the tests need, then checks the style and runs all tests. Arguments go to pytest: -x, test/data, …
set -euo pipefail
CDPATH='' cd "$(dirname "$0")/.."

bash tools/install.sh --quiet --extras test
export PATH="$PWD/.venv/bin:$PATH" PYTHONUTF8=1
ruff check .
ruff format --check .
find egs test tools .ci -name '*.sh' -type f -print0 | xargs -0 shellcheck -x .ci/run tools/bench/run
python -m pytest "$@"
