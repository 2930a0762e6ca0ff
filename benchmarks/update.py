"""How long does an update take? Every method, and every option that changes the cost.

Whole updates of fairseq's trainer, optimizer included, as a ratio to stock fairseq's update with
the same model on the same batch.

The floor counts a forward pass as 1 and a backward pass as 2, or as 1 where only the perturbation's
gradient is wanted, over the 3 of a plain update:

- an ascent step takes a forward pass and the perturbation's gradient, 2; Adv takes its own from the
  clean pass, FreeLB with the task loss from the pass that it trains on;
- a clean pass and a perturbed one that parameters learn from take 3 each;
- to differentiate through an ascent step exactly, a double backward pass goes once through the
  graph of the gradient and once through that of the forward pass, both with parameters: 4;
- a one-sided difference takes one forward and backward pass with parameters more, and parameters in
  the ascent step's backward pass, 4; a central one takes two passes with parameters, 6;
- FreeAT's replays are updates of one pass each.

The optimizer's part of an update is not repeated: where it is large, a ratio may lie below.
"""

from __future__ import annotations

from benchmarks.support.interleaved import PLAIN_PASSES, Contender, rows_in_turns
from benchmarks.support.models import Setup
from benchmarks.support.rows import Row

_OURS = "--task adversarial_{task} --criterion"
OUR_PLAIN = f"{_OURS} {{plain}}"
SALT = f"{_OURS} salt"
_CENTRAL = "--unroll-method central"
ONE_SIDED = "--unroll-method one-sided"
DETACHED = "--clean-branch detached"
VAT = f"{_OURS} vat --divergence kl {DETACHED}"
_FREELB = f"{_OURS} freelb --ascent-steps 3"

CONTENDERS = (
    Contender("our task, plain", OUR_PLAIN, 3),
    Contender("freeat", f"{_OURS} freeat --adv-objective task-loss --adv-weight 1", 3),
    Contender("adv", f"{_OURS} adv", 6),
    Contender("r3f", f"{_OURS} r3f", 6),
    Contender("mat, K = 2 and 3", f"{_OURS} mat", 6 + 4 / 3),
    Contender("rdrop", f"{_OURS} rdrop", 6),
    Contender("simcut", f"{_OURS} simcut", 6),
    Contender("vat, K = 1", VAT, 8),
    Contender("smart, K = 1, no proximal term", f"{_OURS} smart --proximal-weight 0", 8),
    Contender("smart, K = 1", f"{_OURS} smart --store-ema --ema-decay 0.99", 9),
    Contender("freelb, K = 3, task loss", f"{_FREELB} --adv-objective task-loss --adv-weight 1", 9),
    Contender("freelb, K = 3, divergence", _FREELB, 12),
    Contender("salt, exact", SALT, 12),
    Contender("salt, exact, detached", f"{SALT} {DETACHED}", 12),
    Contender("salt, one-sided", f"{SALT} {ONE_SIDED}", 12),
    Contender("salt, one-sided, detached", f"{SALT} {ONE_SIDED} {DETACHED}", 12),
    Contender("salt, central", f"{SALT} {_CENTRAL}", 14),
    Contender("salt, central, detached", f"{SALT} {_CENTRAL} {DETACHED}", 14),
    Contender("salt, every 4th update", f"{SALT} --adv-interval 4", (3 * PLAIN_PASSES + 12) / 4),
)
_GAUGED = Contender("salt, a gauged update", SALT, gauged=True)
_GAUGES_EVERY = 100
"""The default of --gauge-interval."""


def measure(setup: Setup) -> list[Row]:
    """Return a row per model, number of threads and contender."""
    contenders = (*CONTENDERS, _GAUGED)
    rows: list[Row] = []
    for model in (*setup.models, *setup.classifiers):
        measured = rows_in_turns(setup, model, contenders, setup.options(model))
        for start in range(0, len(measured), len(contenders)):  # for each number of threads
            rows += _with_gauges_now_and_then(measured[start : start + len(contenders)])
    return rows


def _with_gauges_now_and_then(rows: list[Row]) -> list[Row]:
    """Add what SALT costs with gauges as they are by default, of updates with and without them."""
    by_name = {row.name: row for row in rows}
    without, gauged = by_name["salt, exact"], by_name[_GAUGED.name]
    assert without.ratio is not None and gauged.ratio is not None
    share = (gauged.ratio - without.ratio) / _GAUGES_EVERY
    more = {"gauges_over_salt": share / without.ratio, **gauged.more}
    for name in ("low", "high", "seconds", "plain_seconds"):  # are of another update
        del more[name]
    ratio = without.ratio + share
    name = f"salt, gauges every {_GAUGES_EVERY}th"
    return [*rows, Row(name, gauged.model, gauged.threads, ratio, without.floor, more)]
