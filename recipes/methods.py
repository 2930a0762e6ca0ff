"""What the methods are called in reports."""

_NAMES = {
    "label_smoothed_cross_entropy": "Transformer",
    "adv": "Adv",
    "freeat": "FreeAT",
    "freelb": "FreeLB",
    "rdrop": "R-Drop",
    "simcut": "SimCut",
}


def name_of(criterion: str) -> str:
    """Return a method's name for people; abbreviations (`salt`) are in capitals."""
    return _NAMES.get(criterion, criterion.upper())
