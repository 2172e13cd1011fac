#!/usr/bin/env bash
# Installs what the tests need, then checks the style and runs all tests, a file of tests a core at a time.
# Arguments go to pytest: -x, test/data, …; -n 0 runs them in this very process, as --pdb needs it.
set -euo pipefail
CDPATH='' cd "$(dirname "$0")/.."

bash tools/install.sh --quiet --extras test
export PATH="$PWD/.venv/bin:$PATH" PYTHONUTF8=1
ruff check .
ruff format --check .
find egs test tools .ci -name '*.sh' -type f -print0 | xargs -0 shellcheck -x .ci/run tools/bench/run
# By file, since what a file's tests share is made once; not those of most tests first, for the slowest have few.
python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder "$@"
