#!/usr/bin/env bash
# Mini LibriSpeech: five hours of read books, with dev_clean_2 to choose on. test_seg is dev_clean_2 again, joined into
# long recordings per chapter and cut out by `segments`: its hypotheses are the same. --corpus-dir names a directory
# with train-clean-5/ and dev-clean-2/; see --help for the other options.
set -euo pipefail

exec "$(dirname "$0")/asr.sh" \
    --corpus mini_librispeech --downloaded downloads/LibriSpeech \
    --extras lhotse \
    --train-set train_clean_5 --dev-set dev_clean_2 --test-sets test_seg \
    --speed-perturb "0.9 1.1" \
    --token-type bpe --vocab-size 500 \
    --headline whisper \
    "$@"
