"""What can go wrong in storage."""

from ....kernel.errors import KernelError


class StorageError(KernelError):
    """Storage could not do what it was asked; what it says was committed, is."""


class Fenced(StorageError):
    """This kernel does not own the process, or not any more; nothing was written."""


class KeyTaken(StorageError):
    """A process with this key exists already; nothing was written."""


class StorageUnavailable(StorageError):
    """The database does not answer. A commit may or may not have been written."""


class SchemaMismatch(StorageError):
    """The database was made by a version of this library that this one cannot work with."""


class StorageRefused(StorageError):
    """The database cannot store this; nothing was written."""


class Erased(StorageError):
    """What the process would need to go on was erased."""


class Overdrawn(StorageError):
    """A reservation does not fit its account at this moment; nothing was written."""
