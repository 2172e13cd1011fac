#!/usr/bin/env bash
# Libriheavy: up to 50 000 hours of read books. Chosen on LibriSpeech's dev sets together (with --text cased on
# dev_cased, Libriheavy's own, whose audio should be in large/, most of it) and reported on LibriSpeech's four sets. --corpus-dir
# names a directory with libriheavy/ (the published manifests), librilight/ (small/, medium/, large/) and LibriSpeech/;
# else stage 0 downloads them: small 35 GB, medium 360 GB, large 3.4 TB, and room for as much again to extract them.
# Features are made as they are needed. Every configuration has the schedule of the subset (the variants of
# conf/base.yaml). Subsets and text forms share exp/ and data/lang_bpe8192: give each a --name, and stage 3 before 4.
#
set -euo pipefail
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
_callee=$here/asr.sh

# Options
subset=large        # small (500 hours), medium (5000) or large (50 000); each holds the smaller ones
text=upper          # upper (capitals, no punctuation) or cased (as in the books, with plain ' and " for ’ “ ”)
librispeech_dir=    # a copy of LibriSpeech's dev and test parts, used instead of a download or of --corpus-dir's
# End of options
# shellcheck source=egs/TEMPLATE/asr1/utils/parse_options.sh
. "$here/utils/parse_options.sh"

corpus=libriheavy_${subset}_librispeech train=train_$subset dev=dev
case $subset in
    small | medium | large) ;;
    *) echo "error: --subset must be small, medium or large, not '$subset'" >&2 && exit 1 ;;
esac
case $text in
    upper) ;;
    cased) train+=_cased dev=dev_cased ;;
    *) echo "error: --text must be upper or cased, not '$text'" >&2 && exit 1 ;;
esac
if [[ -n $librispeech_dir ]]; then
    corpus=libriheavy_$subset
    [[ $librispeech_dir == /* ]] || librispeech_dir=$PWD/$librispeech_dir
    [[ $librispeech_dir != *[[:space:]]* ]] || { echo "error: --librispeech-dir: a path with a space" >&2 && exit 1; }
fi
exec "$_callee" --corpus "$corpus" --downloaded downloads --extras lhotse --features on_the_fly --headline whisper \
    --corpus-options="--text $text${librispeech_dir:+ --librispeech-dir $librispeech_dir}" --variant "$subset" \
    --train-set "$train" --dev-set "$dev" --test-sets "test_clean test_other dev_clean dev_other" --vocab-size 8192 \
    "${passed_on[@]}"
