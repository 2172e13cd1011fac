#!/usr/bin/env bash
# Compares the dense, the Switch and the Omni-router encoder on AN4; --help lists the options.
set -euo pipefail

exec "$(dirname "$0")/compare.sh" --headline raw "$@"
