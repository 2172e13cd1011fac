#!/usr/bin/env bash
# Your own corpus: `./run.sh --corpus-dir DIR`, where DIR/train, DIR/dev and DIR/test are Kaldi data directories with
# wav.scp, text, utt2spk and, where utterances are parts of recordings, segments. They are checked, completed and copied
# to data/. Sets with other names: --train-set, --dev-set, --test-sets "a b"; see --help for the other options.
set -euo pipefail

exec "$(dirname "$0")/asr.sh" \
    --corpus kaldi \
    --train-set train --dev-set dev --test-sets test \
    --token-type bpe --vocab-size 500 \
    --headline raw \
    "$@"
