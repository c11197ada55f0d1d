"""Prints what the roles of the templates grant: a JSON object, `TEMPLATE LogicalId` to a sorted list of actions. `roles.py FOLDER`."""

import json
import pathlib
import sys

from cfnlint.decode import cfn_yaml


def actions(node):
    """Of every statement that allows, wherever conditions of the template have put it."""
    if isinstance(node, dict):
        if node.get("Effect") == "Allow" and "Action" in node:
            named = node["Action"]
            return [named] if isinstance(named, str) else list(named)
        return [action for of in node.values() for action in actions(of)]
    return [action for of in node for action in actions(of)] if isinstance(node, list) else []


granted = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.yaml")):
    for name, of in cfn_yaml.load(str(path))["Resources"].items():
        if of["Type"] == "AWS::IAM::Role":
            granted[f"{path.stem} {name}"] = sorted(set(actions(of["Properties"].get("Policies", []))))
print(json.dumps(granted))
