"""What methods and metrics are called in reports."""

import re

_NAMES = {
    "label_smoothed_cross_entropy": "Transformer",
    "sentence_prediction": "Plain",
    "adv": "Adv",
    "freeat": "FreeAT",
    "freelb": "FreeLB",
    "rdrop": "R-Drop",
    "simcut": "SimCut",
}


_METRICS = {
    "acc_and_f1": "accuracy and F1",
    "f1": "F1",
    "mcc": "MCC",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "pearson_and_spearman": "Pearson and Spearman",
}


def name_of(criterion: str) -> str:
    """Return a method's name for people; abbreviations (`salt`) are in capitals."""
    return _NAMES.get(criterion, criterion.upper())


def preset_and_changes(method: str) -> tuple[str, list[str]]:
    """Return what a method consists of: a preset, and changes to it after commas.

    A change begins with --; one more comma belongs to its value, as in --perturb=source,attention.
    """
    preset, comma, changes = method.partition(",")
    return preset, re.split(",(?=--)", changes) if comma else []


def label_of(method: str) -> str:
    """Return what to call a preset, with changes to it after commas or without, in a table."""
    preset, changes = preset_and_changes(method)
    if preset in ("transformer", "plain"):
        label = "plain"
    else:
        criterion, *variant = preset.split("-")
        label = ", ".join([name_of(criterion), *variant])
    return ", ".join([label, *(change[2:].replace("=", " ") for change in changes)])


def metric_name(metric: str) -> str:
    """Return what to call a metric of `recipes.sentences.metrics`; a pair of them is their mean."""
    return _METRICS.get(metric, metric)
