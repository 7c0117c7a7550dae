"""Write one overlay for each line of customers.csv, and the list of all of them.

Run `python examples/customers/generate.py`. An overlay of a customer that is no longer in the list is removed. Nothing in overlays/ is written by hand.
"""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path
from string import Template

HERE = Path(__file__).resolve().parent
LIST = "# Written by generate.py.\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
OVERLAY = Template("""\
# Written by generate.py from customers.csv: change it there.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $name
namePrefix: $name-
resources:
  - ../../base
patches:
  - target: {kind: CustomerTenant}
    patch: |
      - {op: replace, path: /spec/tenantId, value: $tenant}
      - {op: replace, path: /spec/allowedNamespaces, value: [$name]}
      - {op: replace, path: /spec/allowedScopes, value: [$group]}
      - {op: replace, path: /spec/allowedVaults, value: [$vault.vault.azure.net]}
  - target: {kind: CustomerManagedKey}
    patch: |
      - {op: replace, path: /spec/keyUri, value: "https://$vault.vault.azure.net/keys/cmk"}
  - target: {kind: EncryptedResource, name: documents}
    patch: |
      - {op: replace, path: /spec/resourceId, value: $group/providers/Microsoft.Storage/storageAccounts/$account}
  - target: {kind: EncryptedResource, name: database-server}
    patch: |
      - {op: replace, path: /spec/resourceId, value: $group/providers/Microsoft.Sql/servers/$name-sql}
""")


def overlays(rows: list[dict[str, str]]) -> dict[str, str]:
    """The text of each overlay, by the customer's name."""
    return {
        row["name"]: OVERLAY.substitute(
            row,
            group=f"/subscriptions/{row['subscription']}/resourceGroups/rg-{row['name']}",
            account=f"{row['name'].replace('-', '')}docs"[:24],
        )
        for row in rows
    }


def generate(directory: Path) -> None:
    """Write everything below `directory`."""
    with (HERE / "customers.csv").open(encoding="utf-8", newline="") as file:
        found = overlays(list(csv.DictReader(file)))
    for old in directory.glob("*/kustomization.yaml"):
        if old.parent.name not in found:
            shutil.rmtree(old.parent)
    for name, text in found.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / name / "kustomization.yaml").write_text(text, encoding="utf-8")
    (directory / "kustomization.yaml").write_text(LIST + "".join(f"  - {name}\n" for name in found), encoding="utf-8")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "overlays")
