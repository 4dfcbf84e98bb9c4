from __future__ import annotations

import re

from coordinator.broker.user_rights import flower_rules, node_rules, node_user

#: What can change or read the whole server, or somebody else's keys.
POWERFUL = re.compile(r"\+@|allkeys|allchannels|allcommands|nopass|~\*[ )]|&\*|\+(?:acl|config|keys|scan|flush)")


def test_no_rule_gives_more_than_it_names() -> None:
    for rule in (*node_rules("n1", "pc", 0), *flower_rules(0)):
        assert not POWERFUL.search(f"{rule} "), rule
    assert node_rules("n1", "pc", 0)[0] == flower_rules(0)[0] == "-@all"


def test_a_nodes_keys_are_named_whole() -> None:
    """Else the node `a` had the queue of the node `ab`."""
    keys = [word for rule in node_rules("a", "pc", 0) for word in rule.strip("()").split() if "~" in word]
    assert [key for key in keys if "*" in key] == ["~*.reply.celery.pidbox"]


def test_a_node_runs_no_scripts() -> None:
    assert not [rule for rule in node_rules("n1", "pc", 0) if re.search("eval|script|fcall", rule)]


def test_channels_are_those_of_the_database() -> None:
    assert "(&/3.celeryev/* +publish)" in node_rules("n1", "pc", 3)


def test_users_are_told_apart_from_those_that_others_made() -> None:
    assert node_user("n1") == "sheepfold-node-n1"
