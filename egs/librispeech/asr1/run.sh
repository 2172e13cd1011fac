#!/usr/bin/env bash
# LibriSpeech: up to 960 hours of read books. Chosen on dev, which is dev_clean and dev_other together, and reported on
# the four published sets. --corpus-dir names a directory with train-clean-100/ and so on; only the parts that --hours
# asks for are needed, or downloaded. A tokenizer has more units where there are more hours to learn them from, and 100
# hours are taken at three speeds; --vocab-size and --speed-perturb change that. Every configuration has the schedule of
# these hours (the variants of conf/base.yaml).
#
set -euo pipefail
here=$(dirname "$0")
_callee=$here/asr.sh

# Options
hours=960           # hours of training speech: 100, 460 or 960
# End of options
# shellcheck source=egs/TEMPLATE/asr1/utils/parse_options.sh
. "$here/utils/parse_options.sh"

speeds=
case $hours in # a unit then occurs some two thousand times on average
    100) units=1024 speeds="0.9 1.1" ;;
    460) units=2500 ;;
    960) units=5000 ;;
    *) echo "error: --hours must be 100, 460 or 960, not '$hours'" >&2 && exit 1 ;;
esac

exec "$_callee" \
    --corpus "librispeech_$hours" --downloaded downloads/LibriSpeech \
    --extras lhotse \
    --train-set "train_$hours" --dev-set dev --test-sets "test_clean test_other dev_clean dev_other" \
    --speed-perturb "$speeds" \
    --token-type bpe --vocab-size "$units" \
    --headline whisper --variant "$hours" \
    "${passed_on[@]}"
