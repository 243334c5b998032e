"""What PostgreSQL and the way to it can say, as errors of storage that say what to do.

No message repeats the DSN: it holds a password.
"""

import socket
import ssl

import asyncpg

from ...subsystems.storage import driver as d

VENDOR = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""All that asyncpg raises."""

LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,  # this kernel stood still for too long
)
"""The connection or the server is gone; it may come back."""

BUSY = (
    asyncpg.InsufficientResourcesError,  # no room on its disk, no connection left
    asyncpg.TransactionRollbackError,  # a deadlock's loser
    asyncpg.ReadOnlySQLTransactionError,  # a primary that has become a standby
    asyncpg.LockNotAvailableError,
)
"""The server is there and cannot do it now. Nothing of the statement was carried out."""

PGVECTOR = (
    "install pgvector 0.7 or newer on the server (the package postgresql-NN-pgvector of "
    "PostgreSQL's own repositories for Debian, pgvector_NN for Red Hat; see "
    "https://github.com/pgvector/pgvector) and start again"
)
RIGHTS = (
    "let the DSN's user create a schema in the database (grant create on database ... to ...), "
    "or let its owner start a kernel once and then grant the user usage on the schema, select, "
    "insert, update and delete on its tables and usage on its sequences"
)
EXTENSION = "let a superuser run `create extension vector schema public` in the database"


def passes(error: BaseException) -> bool:
    """May the same statement succeed a little later?"""
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return False  # for a value that it cannot send
    return isinstance(error, (*LOST, *BUSY))


def refusal(error: Exception) -> d.StorageError:
    """Why a statement cannot be carried out, and never will be."""
    if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == "process_key":
        return d.KeyTaken(f"there is a process with that key: {error.detail}")
    if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name == "account_holds":
        return d.Overdrawn(f"a reservation does not fit: {error.detail}")
    return d.StorageRefused(f"the database refuses: {error}")


def unavailable(error: BaseException | None, patience_s: float) -> d.StorageUnavailable:
    """What was in the way for so long."""
    waited = f"after {patience_s:g} s"
    match error:
        case None:
            told = f"no answer {waited}: the server hangs, or all connections are busy"
        case asyncpg.DiskFullError():
            told = f"it has no room {waited} ({error}): free some space on the server's disk"
        case asyncpg.TooManyConnectionsError():
            told = (
                f"it has no connection left {waited} ({error}): raise the server's "
                "max_connections, or lower `connections` of the storage driver"
            )
        case asyncpg.ReadOnlySQLTransactionError():
            told = f"it cannot be written to {waited}: {read_only(error)}"
        case _:
            told = f"no connection {waited}: {said(error)}"
    return d.StorageUnavailable(f"the database is unavailable: {told}")


def unusable(error: BaseException, where: str) -> d.StorageError:
    """Why there is no starting with the database at `where`, and what to do."""
    refused = d.StorageRefused
    match error:
        case asyncpg.InvalidAuthorizationSpecificationError():
            return refused(f"{where} does not let us in: {error}; look at the DSN")
        case asyncpg.InvalidCatalogNameError():
            return refused(f"{where}: {error}; create it, or name another one in the DSN")
        case asyncpg.ReadOnlySQLTransactionError():
            return refused(f"{where} cannot be written to: {read_only(error)}")
        case asyncpg.InsufficientPrivilegeError() if "extension" in str(error):
            return refused(f"{where}: {error}; {EXTENSION}")
        case asyncpg.InsufficientPrivilegeError():
            return refused(f"{where}: {error}; {RIGHTS}")
        case asyncpg.TooManyConnectionsError():
            return d.StorageUnavailable(
                f"{where} has no connection left ({error}): raise its max_connections, or end "
                "what holds them"
            )
        case asyncpg.FeatureNotSupportedError() | asyncpg.UndefinedFileError():
            if "vector" in str(error):
                return refused(f"{where} has no pgvector: {PGVECTOR}")
        case asyncpg.UndefinedObjectError() if "halfvec" in str(error):
            return refused(f"{where} has an old pgvector without halfvec: {PGVECTOR}")
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError) and not passes(error):
        return refused(f"{where} cannot be used: {error}")
    return d.StorageUnavailable(f"{where} cannot be reached: {said(error)}")


def read_only(error: BaseException) -> str:
    return (
        f"{error}; it is a standby, or default_transaction_read_only is on: name the primary in "
        "the DSN, or turn that off"
    )


def said(error: BaseException | None) -> str:
    """What the system says of a connection, with what to look at."""
    match error:
        case socket.gaierror():
            return "there is no host of this name; look at the DSN"
        case ConnectionRefusedError():
            return "nothing listens there; start the server, or look at the DSN's host and port"
        case TimeoutError():
            return "no answer; look at the DSN's host, and for a firewall between"
        case FileNotFoundError():
            return (
                f"a file is not there ({error}): look at sslrootcert, sslcert and sslkey in the "
                "DSN, or at the folder of the server's socket"
            )
        case ssl.SSLError():
            return (
                f"its certificate is not to be trusted ({error}): name the authority's "
                "certificate as sslrootcert in the DSN, or lower its sslmode"
            )
        case ConnectionError() if "SSL" in str(error):
            return "it does not speak TLS: turn `ssl` on there, or take sslmode out of the DSN"
    return str(error) or type(error).__name__
