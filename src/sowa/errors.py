"""The errors that a user can act on."""


class InputError(ValueError):
    """The user's input is wrong: a path, an image, a flag, a file.

    The message is one line that names the value, what is allowed and what to do. The command line prints it
    without a traceback and exits with code 2.
    """


class TrainingError(RuntimeError):
    """Training can't go on, as after a loss that is no number. The command line exits with code 1."""


class ExportError(RuntimeError):
    """An export differs from the original by more than is allowed. The command line exits with code 1."""
