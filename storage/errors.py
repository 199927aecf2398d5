"""Everything that can go wrong in words a person can act on.

Each message is a sentence: the value, the rule it broke, what to do next. `InputError` means that what was
asked for cannot be done as asked (exit code 2); the others mean that something failed (exit code 1).
"""


class PrismError(Exception):
    """Base of all errors that PRISM raises on purpose."""


class InputError(PrismError):
    """A value that a person gave breaks a rule; nothing was changed."""


class StoreError(PrismError):
    """The store cannot be read or written: full or read-only disk, missing rights, damaged files."""


class NoDataError(PrismError):
    """What was asked for is not in the store yet."""


class SourceError(PrismError):
    """A source of prices did not answer well enough to go on; what it gave is kept."""


class ApprovalError(PrismError):
    """What is to be published needs a person's answer, and nobody can be asked here; nothing was recorded."""


class LeakError(PrismError):
    """A past decision comes out differently with another future: something reads what was not known yet."""
