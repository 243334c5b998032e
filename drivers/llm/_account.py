"""Who serves a model: the vendor's row, the address, the key, what is known of the model."""

import difflib
import os
from dataclasses import dataclass

from pydantic import SecretStr

from ...subsystems.llm.driver import (
    Capabilities,
    Endpoint,
    ModelMissing,
    Price,
    Unauthorized,
    Vendor,
    VendorModel,
    Wire,
)
from .. import _vendors

DEFAULT_WINDOW = 8192
"""Of a model that no table knows, on a server of one's own."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """A model at a vendor, as the config names them; what it leaves out is in the table."""

    row: Vendor
    endpoint: Endpoint
    region: str | None
    base_url: str | None
    api_key: SecretStr | None

    @property
    def url(self) -> str:
        """Where the vendor is spoken to. Raises ModelMissing for a region it has not."""
        if self.base_url:
            return self.base_url
        if self.region is None:
            return self.endpoint.base_url
        if self.region not in self.endpoint.regions:
            known = ", ".join(self.endpoint.regions) or "none"
            raise ModelMissing(f"{self.row.title} has no region {self.region!r}; it has: {known}")
        return self.endpoint.regions[self.region]

    @property
    def key(self) -> str:
        """The API key, or "" where none is needed. Raises Unauthorized."""
        name = self.row.key
        key = self.api_key.get_secret_value() if self.api_key else os.environ.get(name, "")
        if not key and name and self.base_url is None:
            raise Unauthorized(
                f"{self.row.title} needs an API key: set the environment variable {name}, "
                f'or write api_key = {{ env = "NAME" }}'
            )
        if not key.isascii() or not key.isprintable():
            raise Unauthorized(f"the API key in {name or 'api_key'} has characters no key has")
        return key

    @property
    def key_name(self) -> str:
        """Where the key comes from, and which one it must be where a vendor has several."""
        name, regions = self.row.key, self.endpoint.regions
        if not name or self.base_url or len(set(regions.values())) < 2:
            return name
        others = " or ".join(region for region, url in regions.items() if url != self.url)
        return f'{name} and must be of the region asked; another is region = "{others}"'

    def price(self, model: VendorModel) -> Price | None:
        """What the table says it costs in this region."""
        home = next(iter(self.endpoint.regions), None)
        return model.price if self.region in (None, home) else model.regional.get(self.region)

    def model(self, name: str, *, window: int | None) -> VendorModel:
        """The table's entry, or one for a model that it need not know. Raises ModelMissing."""
        found = self.row.model(name)
        if found is not None:
            return found
        if not (self.row.open or self.base_url or window):
            near = difflib.get_close_matches(name, [m.name for m in self.row.models], 3, 0.3)
            raise ModelMissing(
                f"{self.row.title} has no model {name!r} in the table; "
                f"near: {', '.join(near) or 'none'}. If it is newer, set context_window"
            )
        able = Capabilities(tools=True, parallel_tools=True, json_schema=True, counting="estimated")
        return VendorModel(name=name, context_window=window or DEFAULT_WINDOW, can=able)


def find_row(name: str, wire: Wire) -> Vendor:
    """The vendor of this name, if it speaks the wire. Raises ValueError."""
    rows = _vendors.table()
    if name not in rows:
        near = difflib.get_close_matches(name, rows, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no vendor {name!r}; {hint}known: {', '.join(sorted(rows))}")
    row = rows[name]
    if wire not in row.endpoints:
        raise ValueError(
            f"{row.title} does not speak {wire!r}; use driver = {next(iter(row.endpoints))!r}"
        )
    return row
