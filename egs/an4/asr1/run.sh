#!/usr/bin/env bash
# CMU AN4: spelled words, digits and names, 38 minutes of training speech; its official test set, and a dev set of whole
# speakers held out from train. --corpus-dir names a directory with etc/ and wav/; see --help for the other options.
set -euo pipefail

exec "$(dirname "$0")/asr.sh" \
    --corpus an4 --downloaded downloads/an4 \
    --train-set train --dev-set dev --test-sets test \
    --speed-perturb "0.9 1.1" \
    --token-type bpe --vocab-size 150 \
    --headline raw \
    "$@"
