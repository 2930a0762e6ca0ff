"""What the methods are called in reports."""

_NAMES = {
    "label_smoothed_cross_entropy": "Transformer",
    "sentence_prediction": "Plain",
    "adv": "Adv",
    "freeat": "FreeAT",
    "freelb": "FreeLB",
    "rdrop": "R-Drop",
    "simcut": "SimCut",
}


def name_of(criterion: str) -> str:
    """Return a method's name for people; abbreviations (`salt`) are in capitals."""
    return _NAMES.get(criterion, criterion.upper())


def label_of(method: str) -> str:
    """Return what to call a preset, with changes to it after commas or without, in a table."""
    preset, *changes = method.split(",")
    if preset in ("transformer", "plain"):
        label = "plain"
    else:
        criterion, *variant = preset.split("-")
        label = ", ".join([name_of(criterion), *variant])
    return ", ".join([label, *(change[2:].replace("=", " ") for change in changes)])
