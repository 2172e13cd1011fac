#!/usr/bin/env bash
# To be sourced by asr.sh in stage 5: puts a language model into the experiment, with weights chosen on the dev set. It
# is that of --lm, or one of three words estimated from the training set's transcripts. Sets ${lm_input} for decoding.
# shellcheck disable=SC2034,SC2154  # the options are asr.sh's, and what is set here is for it

if [[ -n $lm ]]; then
    lm_of=(--given "$lm")
else
    lm=data/lm_$train_set/3gram.arpa
    lm_of=(--from 5 "$lm")
    step "5 language model" --record "data/.stage/lm_$train_set.json" --from 1 "data/$train_set/text" --output "$lm" \
        -- python -m omnirouter.bin.estimate_lm "data/$train_set" --order 3 --output "$lm" \
        -- --dev "data/$dev_set"
fi
find_features "$dev_set"
step "5 tune on $dev_set" --record "$exp/.stage/tune_lm.json" --prefix "$gpu_prefix" "${lm_of[@]}" \
    --from 4 "$exp/model.pt" --from 1 "data/$dev_set/text" "${features_of[@]}" --output "$exp/lm" \
    -- python -m omnirouter.bin.tune_lm --exp "$exp" --data "data/$dev_set" --lm "$lm" \
    -- "${gpu_flag[@]}" "${pipe_flag[@]}"
lm_input=(--from 5 "$exp/lm")
