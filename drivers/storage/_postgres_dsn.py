"""A DSN: the address of a database with a password in it, which must not get into a message."""

from urllib.parse import SplitResult, unquote, urlsplit

SHAPE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
QUOTE = "in user and password write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for # "


def place(dsn: str) -> str:
    """What may be said of it: host, port, database. Raises ValueError for what is no DSN.

    Strict, for with a stray "/" or "@" in it a part of the password would be taken for a host,
    and the host is told.
    """
    fault = _fault(dsn)
    if fault:
        raise ValueError(f"the DSN cannot be used: {fault}. It should look like {SHAPE}")
    url = urlsplit(dsn)
    host = url.netloc.rpartition("@")[2] or "the default host"
    return f"the database {unquote(url.path[1:]) or 'of the user'} at {host}"


def _fault(dsn: str) -> str | None:
    if not dsn.startswith(("postgresql://", "postgres://")):
        return "it does not begin with postgresql://"
    try:
        url = urlsplit(dsn)
    except ValueError:
        return "it is no URL"
    if url.netloc.count("@") > 1 or "@" in url.path + url.query + url.fragment or url.fragment:
        return f"it holds signs that stand for something else; {QUOTE}"
    if not _ports_are_numbers(url):
        return f"its port is no number; {QUOTE}"
    if any("=" not in option for option in url.query.split("&") if url.query):
        return "what stands behind ? is not of the form sslmode=require&..."
    return None


def _ports_are_numbers(url: SplitResult) -> bool:
    """Of several hosts with commas between, an IPv6 address stands in brackets."""
    hosts = url.netloc.rpartition("@")[2].split(",")
    ports = (host.rpartition("]")[2].partition(":")[2] for host in hosts)
    return all(port == "" or (port.isdigit() and 0 < int(port) < 65536) for port in ports)
