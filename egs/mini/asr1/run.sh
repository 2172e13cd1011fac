#!/usr/bin/env bash
# The default recipe: synthetic English commands, made on this machine with eSpeak NG; there is nothing to download.
# It shows the whole pipeline in minutes, and compares encoders where data are plentiful; see --help for its options.
# More of it, or other sentences: --corpus-options="--train-utterances 20000 --seed 1";
# `python -m omnirouter.bin.prepare_corpus mini --help` lists these options.
set -euo pipefail

exec "$(dirname "$0")/asr.sh" \
    --corpus mini \
    --train-set train --dev-set dev --test-sets test \
    --token-type bpe --vocab-size 250 \
    --headline raw \
    "$@"
