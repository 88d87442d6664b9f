"""Says what ansible-core makes of inventories: one JSON line for each directory below the one that is named.

Starting ansible-inventory takes a second; this asks the code behind it many times in one process. A test also runs the
real command on some of the directories and compares, so that this file cannot drift from it.
"""

import datetime
import json
import os
import sys

from ansible import constants, context
from ansible.cli.inventory import InventoryCLI


def plain(value):
    """Takes off Ansible's tags and says dates as text, inside lists and dictionaries."""
    if isinstance(value, dict):
        return {(str(key) if isinstance(key, str) else key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return value


def text(value):
    """Writes a variable as docs/inventory.md says: Python's str of a scalar, compact JSON of all else."""
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)
    return str(value)


def flat(listed, group, seen=()):
    """Returns the hosts of a group, children's included."""
    said = listed.get(group, {})
    hosts = set(said.get("hosts", []))
    for child in said.get("children", []):
        if child not in seen:
            hosts |= flat(listed, child, (*seen, group))
    return hosts


def look(cli, directory):
    loader, inventory, variables = cli._get_inventory(directory)
    cli.loader, cli.inventory, cli.vm = loader, inventory, variables
    listed = cli.json_inventory(cli._get_group("all"))
    meta = listed.pop("_meta")["hostvars"]
    names = [host.name for host in inventory.get_hosts("all")]
    return {
        "hosts": {name: {str(key): text(value) for key, value in meta.get(name, {}).items()} for name in names},
        "groups": {name: sorted(flat(listed, name)) for name in listed},
    }


def is_fallback(cli, directory):
    """Whether a YAML file was taken only because Ansible reads as INI what is no YAML."""
    if not any(file.endswith(".yml") for file in os.listdir(os.path.join(directory, "inventory"))):
        return False
    enabled = constants.INVENTORY_ENABLED
    constants.INVENTORY_ENABLED = ["yaml"]
    try:
        look(cli, directory)
        return False
    except Exception:
        return True
    finally:
        constants.INVENTORY_ENABLED = enabled


class Asker(InventoryCLI):
    def _get_inventory(self, directory):
        from ansible.inventory.manager import InventoryManager
        from ansible.parsing.dataloader import DataLoader
        from ansible.vars.manager import VariableManager

        loader = DataLoader()
        loader.set_vault_secrets([])
        inventory = InventoryManager(loader=loader, sources=[os.path.join(directory, "inventory")])
        return loader, inventory, VariableManager(loader=loader, inventory=inventory, version_info={})


def main(root, only):
    cli = Asker(["ansible-inventory", "--list"])
    cli.parse()
    assert not context.CLIARGS["export"]
    for name in sorted(os.listdir(root)):
        if only and name not in only:
            continue
        try:
            directory = os.path.join(root, name)
            said = look(cli, directory)
            line = json.dumps({"case": name, "fallback": is_fallback(cli, directory), **said})
        except Exception as error:
            line = json.dumps({"case": name, "refused": f"{type(error).__name__}: {error}"})
        print(line, flush=True)


main(sys.argv[1], sys.argv[2:])
