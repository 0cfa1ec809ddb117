"""Brute force over the legal outputs of a chunk: what each decoder must say."""

import numpy as np

from tests.helpers.small_models import AHEAD, LENGTH, whole_batch


class Oracle:
    """p(next token | tokens before it) over the legal outputs of a chunk."""

    def __init__(self, generator, prompt, outputs, bias):
        self.model, self.params = generator
        self.prompt, self.outputs, self.bias = prompt, outputs, bias
        self.choices = {}  # the tokens before -> those allowed next
        for output in outputs:
            for n, token in enumerate(output):
                self.choices.setdefault(output[:n], set()).add(token)
        self.known = {}

    def next(self, ids):
        """Allowed tokens, ascending, and their ln p and logits with bias."""
        if ids not in self.known:
            self._learn(ids)
        return self.known[ids]

    def _learn(self, ids):
        """Run a prefix, together with the decisions below it, which come next."""
        self.known[ids] = self._among(ids, None)
        if len(self.choices.get(ids, ())) < 2:
            return
        below = [
            prefix
            for prefix, allowed in self.choices.items()
            if len(allowed) > 1 and prefix[: len(ids)] == ids
        ]
        below = sorted(below, key=len)[:AHEAD]
        tokens, lengths = np.zeros((AHEAD, LENGTH), np.int32), np.ones(AHEAD, np.int32)
        for row, prefix in enumerate(below):
            sequence = [*self.prompt, *prefix]
            tokens[row, : len(sequence)], lengths[row] = sequence, len(sequence)
        full = whole_batch(self.model)(self.params, tokens, lengths)
        for prefix, logits in zip(below, np.asarray(full, np.float64), strict=False):
            self.known[prefix] = self._among(prefix, logits)

    def _among(self, ids, full):
        """What `next` returns, by logits over the vocabulary; None where forced."""
        allowed = sorted(self.choices.get(ids, ()))
        logits = np.zeros(len(allowed))
        if full is not None:
            logits = full[allowed] + [self.bias(ids, token) for token in allowed]
        log_probs = logits - np.log(np.exp(logits - logits.max(initial=0)).sum() or 1)
        log_probs -= logits.max(initial=0)
        return allowed, log_probs, logits

    def greedy(self):
        """The output of greedy selection, and its ln p."""
        ids, total = (), 0.0
        while True:
            allowed, log_probs, logits = self.next(ids)
            if not allowed:
                return ids, total
            best = int(np.argmax(logits))
            ids, total = (*ids, allowed[best]), total + log_probs[best]

    def log_prob(self, ids, begin):
        """ln p of an output's tokens from `begin` on."""
        total = 0.0
        for n in range(begin, len(ids)):
            allowed, log_probs, _ = self.next(ids[:n])
            total += log_probs[allowed.index(ids[n])]
        return total

    def marginal(self, tokenizer, spans):
        """The output that marginal selection chooses.

        In each block that is the best of no mention and each mention, by its
        probability summed over entities, then the mention's best entity. Returns the
        output, and for each block the sum of the probabilities of all its paths.
        """
        ids, sums = (), []
        while True:
            allowed, *_ = self.next(ids)
            if len(allowed) < 2:
                if not allowed:
                    return ids, sums
                ids = (*ids, *allowed)
                continue
            outcomes = {}
            for output in self.outputs:
                if output[: len(ids)] == ids:
                    key, cut = self.cut_block(output, len(ids), tokenizer, spans)
                    outcomes[cut] = key
            probs = {cut: np.exp(self.log_prob(cut, len(ids))) for cut in outcomes}
            sums.append(sum(probs.values()))
            groups = {}
            for cut, key in outcomes.items():
                groups[key] = groups.get(key, 0.0) + probs[cut]
            best = max(groups, key=lambda key: groups[key])
            ids = max((c for c in probs if outcomes[c] == best), key=probs.get)

    def cut_block(self, output, begin, tokenizer, spans):
        """Look at an output's block that begins at token `begin`.

        Returns the mention that the output links in it, as (start, end) in source
        tokens or None, and the output up to the end of the block.
        """
        pointer, inside, first, n = 0, False, None, 0
        for n, token in enumerate(output):
            if n == begin:
                stop = next((e for s, e in spans if s <= pointer < e), None)
            if token == tokenizer.open:
                inside, first = True, pointer
            elif token == tokenizer.end:
                inside = False
                if n >= begin:
                    return (first, pointer), output[: n + 1]
            elif not inside or token not in (tokenizer.close, tokenizer.entity):
                pointer += not inside or not self._titled(output, n, tokenizer)
                if n >= begin and not inside and pointer == stop:
                    return None, output[: n + 1]
        raise AssertionError(output)

    @staticmethod
    def _titled(output, n, tokenizer):
        """Whether a token within a link belongs to the title."""
        opened = max(i for i in range(n) if output[i] == tokenizer.open)
        return tokenizer.entity in output[opened:n]


class Search:
    """Beam search as Hugging Face's, over given targets, in plain Python."""

    def __init__(self, log_probs, targets, dead=(), bias=lambda ids, token: 0.0):
        self.log_probs, self.bias = log_probs, bias
        self.targets, self.dead = targets, dead
        self.calls = self.tokens = 0  # of the prompt: one call, no tokens

    def continuations(self, ids, score):
        n = len(ids)
        ways = (t for t in (*self.targets, *self.dead) if t[:n] == ids and len(t) > n)
        for token in sorted({t[n] for t in ways}):
            gain = self.log_probs(ids)[token] + self.bias(ids, token)
            yield score + gain, (*ids, token)

    def find(self, beams, early_stopping="heuristic", longest=None):
        """The best finished hypothesis: mean of ln p, target. (-inf, ()) if none is."""
        running, finished = [(0.0, ())], []
        while running:
            self.calls += 1
            self.tokens += len(running) if self.calls > 1 else 0
            best = [c for score, ids in running for c in self.continuations(ids, score)]
            best = sorted(best, key=lambda c: -c[0])[: 2 * beams]
            ended = [(s / len(ids), ids) for s, ids in best[:beams] if self.ends(ids)]
            finished = sorted([*finished, *ended], reverse=True)[:beams]
            running = [c for c in best if not self.ends(c[1])][:beams]
            if running and len(finished) == beams:
                score, ids = running[0]
                length = longest if early_stopping == "never" else len(ids)
                if early_stopping == "always" or score / length <= finished[-1][0]:
                    break
        return finished[0] if finished else (-np.inf, ())

    def ends(self, ids):
        return ids in self.targets
