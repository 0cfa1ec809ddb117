"""Walking the prefix tree of all titles token by token, on the host."""

import numpy as np

from insgenel_jax.decoding.title_trie import children, find_leaf


def find_title(trie, tokens):
    """The entity whose title these tokens are (without END), or None."""
    node, end = 0, int(trie.token[trie.ends[0]])
    for token in [*tokens, end]:
        allowed, nodes = children(trie, node)
        i = int(np.searchsorted(allowed, token))
        if i == len(allowed) or allowed[i] != token:
            return None
        node = nodes[i]
    return find_leaf(trie, node - 1)
