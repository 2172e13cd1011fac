#!/usr/bin/env bash
# Compares the dense, the Switch and the Omni-router encoder on your own corpus; --help lists the options.
set -euo pipefail

exec "$(dirname "$0")/compare.sh" --headline raw "$@"
