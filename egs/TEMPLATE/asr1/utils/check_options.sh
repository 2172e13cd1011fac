#!/usr/bin/env bash
# To be sourced by asr.sh: completes its options, and refuses what cannot be meant, before anything is installed, made
# or deleted.
# shellcheck disable=SC2034,SC2154  # the options are asr.sh's, and what is set here is for it

[[ -n $corpus ]] || die "no --corpus: call a recipe's run.sh, which names it"
[[ $stage == [0-7] && $stop_stage == [0-7] && $stage -le $stop_stage ]] ||
    die "--stage $stage --stop-stage $stop_stage: give stages from 0 to 7, the first not after the last"
[[ $token_type == bpe || $token_type == char ]] || die "--token-type must be bpe or char, not '$token_type'"
[[ $headline == raw || $headline == whisper ]] || die "--headline must be raw or whisper, not '$headline'"
[[ $ngpu =~ ^(0|[1-9][0-9]*)?$ ]] || die "--ngpu must be a number of GPUs, not '$ngpu'"
[[ $features == stored || $features == compressed || $features == on_the_fly ]] ||
    die "--features must be stored, compressed or on_the_fly, not '$features'"
[[ $decoding == greedy || $decoding == beam || $decoding == lm ]] ||
    die "--decoding must be greedy, beam or lm, not '$decoding'"
for dataset in $dev_set $test_sets; do
    [[ $dataset != ?*_@(beam|lm) ]] || die "the set $dataset is named like the results of a beam search; rename it"
done
[[ -z $lm || $decoding == lm ]] || die "--lm is for --decoding lm"
[[ $deep == auto || $deep == true || $deep == false ]] || die "--deep must be auto, true or false, not '$deep'"
[[ $corpus != kaldi || -n $corpus_dir || $stage -gt 1 ]] ||
    die "no --corpus-dir: name the folder that holds your data directories $train_set, $dev_set, ${test_sets// /, }"
[[ $corpus == kaldi ]] || ! $allow_pipes ||
    die "--allow-pipes is for a corpus of your own (egs/own): $corpus has no shell commands in wav.scp"
[[ $corpus != mini || -z $corpus_dir ]] || die "the mini corpus is made on this machine: it takes no --corpus-dir"
if [[ -n $config ]]; then config=$(from_caller "$config"); else config=conf/omnirouter.yaml; fi
corpus_dir=$(from_caller "$corpus_dir")
lm=$(from_caller "$lm")
decoded='' decoding_flag=() lm_input=() # of the hypotheses' folders; of the commands of stage 5
if [[ $decoding != greedy ]]; then
    decoded=_$decoding decoding_flag=(--decoding "$decoding")
    extras+=" lm"
fi
[[ -n $name ]] || name=$(basename "$config" .yaml)
[[ $name && $name != .* && $name != *[/[:space:][:cntrl:]]* ]] ||
    die "--name '$name': give a name for a folder in exp/, without / or spaces, not beginning with a dot"
exp=exp/$name
if [[ -n $init ]] && within 4; then
    if [[ -d exp/$init ]]; then init=exp/$init; else init=$(from_caller "$init"); fi
    [[ ! $init -ef $exp ]] || die "--init $init is the experiment itself: give another --name to what starts from it"
    [[ -f $init/model.pt ]] || die "--init: no $init/model.pt: give a trained experiment, as a name in exp/ or a path"
fi
