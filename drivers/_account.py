"""A vendor as the config names it: its row of the table, the address, the key."""

import difflib
import hashlib
import os
from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

from ..kernel.secrets import keep
from ..subsystems.llm.driver import Endpoint, Vendor, Wire
from . import _vendors
from ._http import Fault


@dataclass(frozen=True, kw_only=True)
class Account:
    """What the config leaves out is in the row and in its endpoint for the wire."""

    row: Vendor
    endpoint: Endpoint
    region: str | None
    base_url: str | None
    api_key: SecretStr | None

    @classmethod
    def find(
        cls,
        vendor: str,
        wire: Wire,
        *,
        region: str | None,
        base_url: str | None,
        api_key: SecretStr | None,
    ) -> Self:
        """At the vendor of this name, if it speaks the wire. Raises ValueError."""
        rows = _vendors.table()
        if vendor not in rows:
            near = difflib.get_close_matches(vendor, rows, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"no vendor {vendor!r}; {hint}known: {', '.join(sorted(rows))}")
        row = rows[vendor]
        if wire not in row.endpoints:
            spoken = next(iter(row.endpoints))
            raise ValueError(f"{row.title} does not speak {wire!r}; use driver = {spoken!r}")
        endpoint = row.endpoints[wire]
        return cls(row=row, endpoint=endpoint, region=region, base_url=base_url, api_key=api_key)

    @property
    def url(self) -> str:
        """Where the vendor is spoken to. Raises Fault for a region that it has not."""
        if self.base_url or self.region is None:
            return self.base_url or self.endpoint.base_url
        if self.region not in self.endpoint.regions:
            known = ", ".join(self.endpoint.regions) or "none"
            raise Fault(
                "region", f"{self.row.title} has no region {self.region!r}; it has: {known}"
            )
        return self.endpoint.regions[self.region]

    @property
    def key(self) -> str:
        """The API key, or "" where none is needed. Raises Fault."""
        name, key = self.row.key, self._given_key
        if not key and name and self.base_url is None:
            raise Fault(
                "key",
                f"{self.row.title} needs an API key: set the environment variable {name}, "
                f'or write api_key = {{ env = "NAME" }}',
            )
        if not key.isascii() or not key.isprintable():
            raise Fault("key", f"the API key in {name or 'api_key'} has characters no key has")
        return keep(key)

    @property
    def _given_key(self) -> str:
        if self.api_key is not None:
            return self.api_key.get_secret_value()
        return os.environ.get(self.row.key, "")

    @property
    def fingerprint(self) -> str:
        """The same wherever this key is used, and nothing of it can be told from it."""
        key = self._given_key or self.base_url or self.endpoint.base_url
        told = key.encode("utf-8", "backslashreplace")
        digest = hashlib.blake2s(told, digest_size=6, person=b"account")
        return f"{self.row.name}-{digest.hexdigest()}"

    @property
    def key_name(self) -> str:
        """Where the key comes from, and which one it must be where a vendor has several."""
        name, regions = self.row.key, self.endpoint.regions
        if not name or self.base_url or len(set(regions.values())) < 2:
            return name
        others = " or ".join(region for region, url in regions.items() if url != self.url)
        return f'{name} and must be of the region asked; another is region = "{others}"'
