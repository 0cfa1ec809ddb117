#!/usr/bin/env bash
# Set up, and link sentences with nano, the linker that comes with the package. Then, to
# show how a linker is made, run the whole pipeline on a mini world of sixty-seven
# entities: prepare, train both models, index, link, evaluate. It takes about three
# minutes on two cores.
# Argument: the folder to work in (default work/quickstart).
set -euo pipefail
out=$(realpath -m "${1:-work/quickstart}")
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
began=$SECONDS
step() { printf '\n\033[1m%s\033[0m  (%d s)\n' "$1" $((SECONDS - began)); }

step "Link sentences with nano"
python -m insgenel_jax.link "Marie Curie was born in Warsaw and studied in Paris." \
    "Apollo 11 took Neil Armstrong to the Moon; NASA planned the flight in Houston." \
    "Mozart left Salzburg for Vienna, where he met Joseph Haydn."
step "Make a linker of one's own. Prepare: knowledge base, paragraphs, tokenizers"
python -m insgenel_jax.prepare world --out "$out/data"
step "Train the retriever and the generator, side by side (about two minutes)"
python -m insgenel_jax.train --config=configs/retriever_tiny.py \
    --workdir="$out/retriever" --set data.documents="$out/data/train" \
    --set data.kb="$out/data/kb" --set model.tokenizer="$out/data/tokenizers/retriever" \
    >"$out/retriever.log" 2>&1 &
retriever=$!
trap 'kill "$retriever" 2>/dev/null || true' EXIT
python -m insgenel_jax.train --config=configs/generator_tiny.py \
    --workdir="$out/generator" --set data.documents="$out/data/train" \
    --set data.kb="$out/data/kb" --set model.tokenizer="$out/data/tokenizers/generator"
wait "$retriever" || { cat "$out/retriever.log"; exit 1; }
tail -n 5 "$out/retriever.log"
step "Index the entities, put the linker together"
python -m insgenel_jax.index --kb "$out/data/kb" --retriever "$out/retriever/model" \
    --generator "$out/generator/model" --out "$out/index" --linker "$out/linker" \
    --set top_k=20 --set chunk_tokens=60  # as the development paragraphs like it best
step "Link"
python -m insgenel_jax.link --linker "$out/linker" --input "$out/data/heldout.jsonl" \
    --output "$out/linked.jsonl" --show 5
step "Evaluate on the held-out paragraphs"
python -m insgenel_jax.evaluate --linker "$out/linker" \
    --documents "$out/data/heldout.jsonl" --system insgenel-r --system insgenel \
    --system prior --tune "$out/data/dev.jsonl" --json "$out/scores.json"
step "Done: the linker is in $out/linker"
