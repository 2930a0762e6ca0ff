"""What fairseq's validation measures: of every batch, and known before the training.

Tests: tests/trainer/test_compat.py, tests/tasks/test_sentence_prediction.py.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from fairseq import checkpoint_utils
from fairseq.criterions import sentence_prediction
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.criterions.sentence_prediction import SentencePredictionCriterion


def _measured(trainer: Any) -> tuple[set[str], dict[str, str]]:
    """What validation measures, and the options for what it could; nothing where it is not known.

    Causes: `reduce_metrics` of these criterions.
    """
    criterion = trainer.get_criterion()
    plain = getattr(criterion, "plain", criterion)
    if type(plain) is LabelSmoothedCrossEntropyCriterion:
        found = {"loss", "nll_loss", "ppl"}
        options = {
            "accuracy": ("--report-accuracy", plain.report_accuracy),
            "bleu": ("--eval-bleu", getattr(trainer.task.cfg, "eval_bleu", False)),
        }
    elif type(plain) is SentencePredictionCriterion:
        found = {"loss", "nll_loss"} | (set() if plain.regression_target else {"accuracy"})
        correlations = ("--report-pearson-and-spearman", plain.report_pearson_and_spearman)
        options = dict.fromkeys(("pearson", "spearman", "pearson_and_spearman"), correlations)
        if not plain.regression_target:
            options["mcc"] = ("--report-mcc", plain.report_mcc)
            f1 = ("--report-acc-and-f1", plain.report_acc_and_f1)
            options |= dict.fromkeys(("f1", "acc_and_f1"), f1)
    else:
        return set(), {}
    found |= {metric for metric, (_, used) in options.items() if used}
    return found, {metric: option for metric, (option, _) in options.items()}


def correlate_few_sentences() -> None:
    """Validate scores in batches of any size.

    fairseq measures each batch for its progress bar, and scipy raises an error of one sentence,
    whose correlation is no number. Cause: `criterions.sentence_prediction.pearson_and_spearman`.
    Test: test_a_single_sentence_has_no_correlation.
    """
    correlate = sentence_prediction.pearson_and_spearman

    @functools.wraps(correlate)
    def correlating(preds: Any, labels: Any) -> dict[str, float]:
        if len(preds) < 2:
            return dict.fromkeys(("pearson", "spearmanr", "corr"), math.nan)
        found: dict[str, float] = correlate(preds, labels)
        return found

    sentence_prediction.pearson_and_spearman = correlating


def refuse_a_metric_that_is_not_measured() -> None:
    """Refuse, before the training, a `--best-checkpoint-metric` that validation does not measure.

    fairseq ends in a KeyError after the first validation, which may be the work of hours. What is
    measured is known of label-smoothed cross-entropy, of sentence prediction and of games. Cause:
    `fairseq_cli.train.validate`. Test: test_a_metric_that_is_not_measured_is_refused.
    """
    load_checkpoint = checkpoint_utils.load_checkpoint

    @functools.wraps(load_checkpoint)
    def loading(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        metric, (measured, options) = cfg.best_checkpoint_metric, _measured(trainer)
        if metric not in measured and measured and not trainer.cfg.dataset.disable_validation:
            option = options.get(metric)
            cure = f"add {option}, or choose another" if option else "choose one of these"
            raise SystemExit(
                f"fairseq_adv: --best-checkpoint-metric {metric}: validation measures"
                f" {', '.join(sorted(measured))}: {cure}"
            )
        return load_checkpoint(cfg, trainer, **kwargs)

    checkpoint_utils.load_checkpoint = loading


PATCHES = (refuse_a_metric_that_is_not_measured, correlate_few_sentences)
