"""The one exception that a user is meant to read."""


class MlpoError(Exception):
    """Bad input, said in one sentence: what is wrong, where, and what to do. The command line exits with 2."""
