#!/usr/bin/env bash
# To be sourced by asr.sh in stage 7: numbers and the paper's figures of this experiment. Fig. 2, 4 and 5 of each set in
# routing_<set>/, Fig. 6 and the load on all sets in figures/, and with --random-routing Fig. 3 in random_routing_<set>/.
# shellcheck disable=SC2154  # the variables are asr.sh's

for dataset in "${eval_sets[@]}"; do
    find_features "$dataset"
    step "7 analyse routing $dataset" --record "$exp/.stage/routing_$dataset.json" --prefix "$gpu_prefix" \
        --from 4 "$exp/model.pt" "${features_of[@]}" --optional-output "$exp/routing_$dataset" \
        --optional "data/$dataset"/{text,utt2spk,spk2accent,utt2noise,phones.ctm} \
        -- python -m omnirouter.bin.analyse_routing --exp "$exp" --data "data/$dataset" \
        -- "${gpu_flag[@]}" "${pipe_flag[@]}"
done

reported_sets=()
! $random_routing || read -ra reported_sets <<<"$test_sets"
for dataset in "${reported_sets[@]}"; do
    [[ -d $exp/routing_$dataset ]] || continue # a dense encoder has none
    if grep -qs '^  top_k: \([^1]\|..\)' "$exp/config.yaml"; then
        log "stage 7 random routing $dataset: passed over, since Fig. 3 is of the top-1 expert only (model.top_k)"
        continue
    fi
    find_features "$dataset"
    step "7 random routing $dataset" --record "$exp/.stage/random_routing_$dataset.json" --prefix "$gpu_prefix" \
        --from 4 "$exp/model.pt" --from 1 "data/$dataset/text" "${features_of[@]}" \
        --output "$exp/random_routing_$dataset" \
        -- python -m omnirouter.bin.random_routing --exp "$exp" --data "data/$dataset" --headline "$headline" \
        -- "${gpu_flag[@]}" "${pipe_flag[@]}"
done

step "7 figures" --record "$exp/.stage/figures.json" --from 4 "$exp"/{config.yaml,metrics.jsonl} \
    --optional "${eval_sets[@]/#/$exp/routing_}" --output "$exp/figures" \
    -- python -m omnirouter.bin.figures "$exp" --output "$exp/figures"
