#!/usr/bin/env bash
# Compares the dense, the Switch and the Omni-router encoder on Libriheavy, as in Table IV of the paper; --help lists the options.
set -euo pipefail

exec "$(dirname "$0")/compare.sh" --headline whisper "$@"
