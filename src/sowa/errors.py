"""The one exception for input that the user can correct."""


class InputError(ValueError):
    """The user's input is wrong: a path, a picture, a flag, a file.

    The message is one line that names the value, what is allowed and what to do. The command line prints it
    without a traceback and exits with code 2.
    """
