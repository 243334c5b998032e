"""The ceilings that a configuration names."""

from collections.abc import Iterator, Mapping

from ..storage.messages import PutAccount
from .messages import NAMESPACE, Quota, TenantQuota, of_tenant


def configured(namespace: Quota | None, tenants: Mapping[str, TenantQuota]) -> Iterator[PutAccount]:
    """Of everybody, and of tenants and their models. Raises ValueError."""
    scopes: dict[str, Quota] = {} if namespace is None else {NAMESPACE: namespace}
    for tenant, whole in tenants.items():
        scopes[of_tenant(tenant)] = whole
        for model, of_model in whole.models.items():
            scopes[of_tenant(tenant, model)] = of_model
    for scope, quota in scopes.items():
        if quota.wall_s is not None:
            raise ValueError(f"wall_s is for processes, and {scope!r} is none")
        yield from quota.accounts(scope, 0, configured=True)
