#!/usr/bin/env bash
# The stages of a speech recognition recipe. A recipe's run.sh names its corpus and sets, and calls this script.
#
# Stage                 reads                                           writes
#   0 download          the corpus's web site (not with --corpus-dir)   downloads/
#   1 data directories  the corpus                                      data/<set>/
#   2 fbank             data/<set>/                                     fbank/<set>/, data/<set>/feats.scp
#   3 tokenizer         data/<train>/text                               data/lang_<type><size>/
#   4 train             features, tokenizer, --config                   exp/<name>/
#   5 decode            exp/<name>/model.pt, features of dev and test   exp/<name>/decode_<set>[_beam|_lm]/text
#   6 score             hypotheses, data/<set>/text                     exp/<name>/decode_…/score/, exp/RESULTS.md
#   7 analyse routing   exp/<name>/, features of dev and test           exp/<name>/{routing_<set>,figures}/
#
# A stage is passed over while its inputs, its settings and what it has made are unchanged. Training goes on where it
# was stopped. The same command continues after any interruption.
set -euo pipefail
caller_dir=$PWD
recipe_dir=$(CDPATH='' cd "$(dirname "$0")" && pwd)

# Options of every recipe
stage=0             # first stage to run
stop_stage=7        # last stage to run
corpus_dir=         # a copy of the corpus on this machine, used instead of a download
config=             # configuration of the model and its training; by default the recipe's conf/omnirouter.yaml
name=               # the experiment is exp/NAME; by default NAME is the config's file name
init=               # start from the weights of this experiment (a name in exp/, or a directory)
set=                # changes to the configuration: "key=value key=value"
nj=4                # parallel jobs of stage 2
ngpu=               # GPUs to use: 0, 1, or several to train on; by default one if there is one
force=false         # run stages even when they are up to date
restart=false       # train from the beginning, dropping what exp/NAME has
features=stored     # stage 2 stores features (stored), in a quarter of the space (compressed), or not (on_the_fly)
deep=auto           # stage 1 decodes every audio file: true, false (headers only), auto (true below 10 000 utterances)
decoding=greedy     # search for the most probable path (greedy), by beam (beam), or by beam with an n-gram model (lm)
lm=                 # that model, an ARPA file or kenlm binary; by default one estimated from the training transcripts
random_routing=false # stage 7 makes Fig. 3 too: decodes each test set 16 times with tokens sent to random experts
allow_pipes=false   # run the shell commands in wav.scp lines that end in | (your own corpus only)
# Options that a recipe's run.sh sets
corpus=             # corpus to prepare, as python -m omnirouter.bin.prepare_corpus --help lists them
downloaded=         # where stage 0 leaves the corpus, if there is one to download
corpus_options=     # further options of prepare_corpus, split at spaces
extras=             # extras of setup.py that the corpus needs
train_set=train     # data set to train on
dev_set=dev         # data set to validate on
test_sets="test"    # data sets to report on
speed_perturb=      # speed factors of further copies of the training set: "0.9 1.1"
token_type=bpe      # bpe or char
vocab_size=500      # number of BPE tokens
headline=raw        # word error rate to head the results: raw, or whisper (by its English normaliser)
variant=            # variant of the configuration, as conf/base.yaml names them: a schedule for less speech
# End of options

log() { echo "[$(date +%T)] $*"; }
die() { echo "error: $*" >&2 && exit 1; }
within() { ((stage <= $1 && $1 <= stop_stage)); }
from_caller() { # prints the path $1, which may be meant from where the user stands or from the recipe
    if [[ $1 == [!/]* && $caller_dir != "$recipe_dir" && -e $caller_dir/$1 ]]; then echo "$caller_dir/$1"; else echo "$1"; fi
}
find_features() { # sets ${features_of}: what a stage reads that needs the features of the set $1
    features_of=(--from 2 "data/$1/utt2num_frames" --optional "data/$1/feats.scp")
    [[ -e data/$1/feats.scp ]] || features_of+=("data/$1"/{segments,utt2speed} --audio-of "data/$1/wav.scp")
}
step() { # runs a step unless it is up to date: its name, what it reads and writes, --, the command
    python -m omnirouter.bin.stage --parent $$ "${force_flag[@]}" --name "$@"
}

_caller=$recipe_dir/run.sh
# shellcheck source=egs/TEMPLATE/asr1/utils/parse_options.sh
. "$recipe_dir/utils/parse_options.sh"
cd "$recipe_dir"

# shellcheck source=egs/TEMPLATE/asr1/utils/check_options.sh
. utils/check_options.sh
# shellcheck source=egs/TEMPLATE/asr1/path.sh
. ./path.sh
# shellcheck source=egs/TEMPLATE/asr1/cmd.sh
. ./cmd.sh

read -ra corpus_flags <<<"$corpus_options"
corpus_input=()
if [[ -n $corpus_dir ]]; then
    corpus_flags+=(--corpus-dir "$corpus_dir")
    corpus_input=(--given "$corpus_dir")
elif [[ -n $downloaded ]]; then
    corpus_flags+=(--corpus-dir "$downloaded")
    corpus_input=(--from 0 "$downloaded")
fi
paths_flag=() pipe_flag=() features_flag=() deep_flag=() gpu_flag=() force_flag=()
! $allow_pipes || pipe_flag=(--allow-pipes)
[[ $features == stored ]] || features_flag=(--features "$features")
case $deep in true) deep_flag=(--deep) ;; false) deep_flag=(--no-deep) ;; esac
read -ra eval_sets <<<"$dev_set $test_sets"
all_sets=("$train_set" "${eval_sets[@]}")
if [[ $corpus == kaldi ]]; then
    corpus_flags+=(--sets "${all_sets[@]}" "${deep_flag[@]}" "${pipe_flag[@]}")
    paths_flag=(--paths-from "$caller_dir")
fi
train=$train_set
[[ -z $speed_perturb ]] || train=${train_set}_sp
lang=data/lang_char
tokenizer_flags=(--type "$token_type")
if [[ $token_type == bpe ]]; then
    lang=data/lang_bpe$vocab_size
    tokenizer_flags+=(--vocab-size "$vocab_size")
fi
train_flags=(--config "$config" --variant="$variant" --set="$set")
! within 4 || python -m omnirouter.bin.check_config "${train_flags[@]}" # a mistake shows now, not after the download
[[ -z $init ]] || train_flags+=(--init "$init")
train_flags+=("${pipe_flag[@]}")
[[ -z $ngpu ]] || gpu_flag=(--ngpu $((ngpu > 1 ? 1 : ngpu))) # of each process
! $restart || train_flags+=(--restart)
! $force || force_flag=(--force)

if within 0 && [[ -z $corpus_dir ]]; then
    step "0 download" \
        -- python -m omnirouter.bin.download "$corpus" --output downloads
fi

if within 1; then
    data_dirs=("${all_sets[@]/#/data/}")
    wav_scps=("${data_dirs[@]/%//wav.scp}")
    tables=("${wav_scps[@]}")
    for dir in "${data_dirs[@]}"; do tables+=("$dir"/{text,utt2spk,spk2utt,utt2dur}); done
    step "1 data directories" --record data/.stage/prepare.json \
        "${corpus_input[@]}" --output "${tables[@]}" --output-audio-of "${wav_scps[@]}" \
        -- python -m omnirouter.bin.prepare_corpus "$corpus" --output data "${corpus_flags[@]}" -- "${paths_flag[@]}"
    if [[ $corpus != kaldi ]]; then # whose data directories are validated before they are copied
        step "1 validation" --record data/.stage/validate.json --from 1 "${tables[@]}" --audio-of "${wav_scps[@]}" \
            -- python -m omnirouter.bin.validate_data_dir "${data_dirs[@]}" "${deep_flag[@]}"
    fi
fi

if within 2; then
    if [[ -n $speed_perturb ]]; then
        step "2 speed perturbation" --record data/.stage/perturb.json \
            --from 1 "data/$train_set"/{wav.scp,text,utt2spk,utt2dur} --optional "data/$train_set/segments" \
            --output "data/$train"/{wav.scp,text,utt2spk,spk2utt,utt2dur,utt2speed} \
            -- python -m omnirouter.bin.perturb_speed "data/$train_set" --factors "$speed_perturb" \
            --output "data/$train" "${pipe_flag[@]}"
    fi
    if [[ $features == on_the_fly ]]; then made=--optional-output; else made=--output; fi
    for dataset in "$train" "${eval_sets[@]}"; do
        step "2 fbank $dataset" --record "data/.stage/fbank_$dataset.json" --audio-of "data/$dataset/wav.scp" \
            --from 1 "data/$dataset/wav.scp" --optional "data/$dataset"/{segments,utt2speed} \
            "$made" "fbank/$dataset" "data/$dataset/feats.scp" --output "data/$dataset/utt2num_frames" \
            -- python -m omnirouter.bin.compute_fbank "data/$dataset" --output "fbank/$dataset" "${features_flag[@]}" \
            "${pipe_flag[@]}" -- --nj "$nj" --job-prefix "$job_prefix"
    done
fi

if within 3; then
    step "3 tokenizer" --record "data/.stage/$(basename "$lang").json" \
        --from 1 "data/$train_set/text" --output "$lang" \
        -- python -m omnirouter.bin.train_tokenizer "data/$train_set" "${tokenizer_flags[@]}" --output "$lang"
fi

if within 4; then
    if ((${ngpu:-1} > 1)); then several=(torch.distributed.run --standalone --nproc-per-node "$ngpu" -m); else several=(); fi
    step "4 train $name" --prefix "$train_prefix" --given "$config" --from 3 "$lang/tokens.txt" \
        --from 1 "data/$train_set/text" "data/$dev_set/text" --from 2 "data"/{"$train","$dev_set"}/utt2num_frames \
        -- python -m "${several[@]}" omnirouter.bin.train --train "data/$train" --dev "data/$dev_set" \
        --lang "$lang" --lang-text "data/$train_set/text" --exp "$exp" "${train_flags[@]}" "${gpu_flag[@]}"
fi

if within 5; then
    # shellcheck source=egs/TEMPLATE/asr1/utils/tune_lm.sh
    [[ $decoding != lm ]] || . utils/tune_lm.sh
    for dataset in "${eval_sets[@]}"; do
        find_features "$dataset"
        step "5 decode $dataset$decoded" --record "$exp/.stage/decode_$dataset$decoded.json" --prefix "$gpu_prefix" \
            --from 4 "$exp/model.pt" "${lm_input[@]}" "${features_of[@]}" --output "$exp/decode_$dataset$decoded/text" \
            -- python -m omnirouter.bin.decode --exp "$exp" --data "data/$dataset" "${decoding_flag[@]}" \
            -- "${gpu_flag[@]}" "${pipe_flag[@]}"
    done
fi

if within 6; then
    for dataset in "${eval_sets[@]}"; do
        hyp=$exp/decode_$dataset$decoded
        step "6 score $dataset$decoded" --record "$exp/.stage/score_$dataset$decoded.json" --from 5 "$hyp/text" \
            --from 1 "data/$dataset"/{text,utt2spk,utt2dur} --output "$hyp/score" \
            -- python -m omnirouter.bin.score --data "data/$dataset" --hyp "$hyp/text" --output "$hyp/score"
    done
fi

if within 7; then
    # shellcheck source=egs/TEMPLATE/asr1/utils/analyse_routing.sh
    . utils/analyse_routing.sh
fi

log "finished in $((SECONDS / 60)) min $((SECONDS % 60)) s"
! within 6 || python -m omnirouter.bin.results exp --headline "$headline"
