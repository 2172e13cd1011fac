#!/usr/bin/env bash
# To be sourced from a recipe's directory: the toolkit's Python environment, which is installed on first use, with the
# extras of setup.py in ${extras}. Where OMNIROUTER_VENV names an environment of your own, nothing is installed.

root=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
[[ -n ${OMNIROUTER_VENV:-} ]] || bash "$root/tools/install.sh" --quiet --extras "${extras:-}"
export PATH="${OMNIROUTER_VENV:-$root/.venv}/bin:$PATH"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export LC_ALL=C.UTF-8 PYTHONUTF8=1 PYTHONUNBUFFERED=1
