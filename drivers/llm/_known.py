"""What the table knows of a model at a vendor, and what is assumed of one it does not know."""

import difflib

from ...subsystems.llm.driver import Capabilities, ModelMissing, Price, VendorModel
from .._account import Account

DEFAULT_WINDOW = 8192
"""Of a model that no table knows, on a server of one's own."""


def known_model(account: Account, name: str, *, window: int | None) -> VendorModel:
    """The table's entry, or one for a model that it need not know. Raises ModelMissing."""
    row = account.row
    found = row.model(name)
    if found is not None:
        return found
    if not (row.open or account.base_url or window):
        near = difflib.get_close_matches(name, [model.name for model in row.models], 3, 0.3)
        raise ModelMissing(
            f"{row.title} has no model {name!r} in the table; "
            f"near: {', '.join(near) or 'none'}. If it is newer, set context_window"
        )
    able = Capabilities(tools=True, parallel_tools=True, json_schema=True, counting="estimated")
    return VendorModel(name=name, context_window=window or DEFAULT_WINDOW, can=able)


def price_of(account: Account, model: VendorModel) -> Price | None:
    """What the table says it costs in the account's region."""
    home = next(iter(account.endpoint.regions), None)
    return model.price if account.region in (None, home) else model.regional.get(account.region)
