"""What an engine did to the firewall is taken back, and nothing else is."""

from __future__ import annotations

from demo.firewall import undoing

BEFORE = """\
*filter
:INPUT ACCEPT
:FORWARD ACCEPT
-A INPUT -p tcp --dport 22 -j ACCEPT
COMMIT
""".splitlines()

AFTER = """\
*filter
:INPUT ACCEPT
:FORWARD DROP
:DOCKER -
:DOCKER-USER -
-A INPUT -p tcp --dport 22 -j ACCEPT
-A INPUT -s 203.0.113.9/32 -j DROP
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
*nat
:POSTROUTING ACCEPT
:DOCKER -
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
""".splitlines()


def test_chains_rules_and_policy_of_the_engine_go() -> None:
    assert undoing(BEFORE, AFTER) == [
        "*filter",
        ":FORWARD ACCEPT",
        "-D FORWARD -j DOCKER-USER",
        "-D FORWARD -o docker0 -j DOCKER",
        "-D FORWARD -i docker0 -o docker0 -j ACCEPT",
        "-D DOCKER-USER -j RETURN",
        "-F DOCKER",
        "-F DOCKER-USER",
        "-X DOCKER",
        "-X DOCKER-USER",
        "COMMIT",
        "*nat",
        "-D POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        "-F DOCKER",
        "-X DOCKER",
        "COMMIT",
    ]


def test_a_rule_that_the_administrator_added_meanwhile_stays() -> None:
    assert not any("203.0.113.9" in line for line in undoing(BEFORE, AFTER))


def test_what_was_there_before_stays() -> None:
    assert undoing(AFTER, AFTER) == []
