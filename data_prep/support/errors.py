"""The one exception that stands for a mistake in the input, the options or the machine."""


class DataPrepError(Exception):
    """Something the user can mend; the message is one or two lines and says what and where."""
