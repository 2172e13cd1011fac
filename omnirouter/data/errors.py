"""The one error that is shown to the user without a traceback."""


class UserError(Exception):
    """A mistake in the user's input: the message names the file, line or utterance, and what to do about it."""
