# SPDX-License-Identifier: BSD-3-Clause
"""Export of a policy to an engine: files that the engine loads, and the lines of each rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from midcall.errors import TestbedError
from midcall.testbed.engines import iptables_rules, ndpi_rules, nftables_rules, suricata_rules
from midcall.testbed.engines.condition import Refused
from midcall.testbed.engines.written import Refusal, Written
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy

#: Engines that a policy is exported to, with the functions that write their files.
WRITERS: dict[str, Callable[[Policy], Written]] = {
    "suricata": suricata_rules.written,
    "nftables": nftables_rules.written,
    "iptables": iptables_rules.written,
    "ndpi": ndpi_rules.written,
}
ENGINES = tuple(WRITERS)
README = "README.md"


class Export(NamedTuple):
    """What was written: files by name, the rules that were refused, those that are approximate."""

    engine: str
    files: dict[str, str]
    refused: list[Refusal]
    nearly: list[Refusal]

    @property
    def exact(self) -> bool:
        """Return whether every rule is translated exactly, as far as the translation knows."""
        return not self.refused and not self.nearly


def export(policy: Policy, engine: str, places: dict[str, KeyPlaces] | None = None) -> Export:
    """Return an engine's files for a policy; places: of `places_of`.

    A rule that cannot be translated is refused, and with it every later one: which packets reach
    those depends on it. Raises TestbedError for an unknown engine.
    """
    if engine not in WRITERS:
        raise TestbedError(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
    files, lines, nearly = {}, {}, []
    refused: list[Refusal] = []
    try:
        made = WRITERS[engine](policy)
        files, lines = dict(made.files), made.lines
        nearly = made.nearly
    except Refused as problem:
        refused = list(problem.args[0]) if isinstance(problem.args[0], list) else []
    out = Export(engine, files, refused, nearly)
    if files:
        files[README] = readme(policy, out, lines, places or {})
    return out


def write(folder: Path, made: Export) -> list[Path]:
    """Write the files of an export into a folder; raises TestbedError where a file exists."""
    paths = [folder / name for name in made.files]
    for path in paths:
        if path.exists():
            raise TestbedError(f"{path}: exists already; give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.write_text(made.files[path.name], encoding="utf-8")
    except OSError as error:
        raise TestbedError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return paths


#: How each engine loads the files.
LOADING = {
    "suricata": (
        "`suricata -T -S midcall.rules -c suricata.yaml` tests the rules, `suricata -c "
        "suricata.yaml -S midcall.rules -q 0` (or `--af-packet` with `copy-mode: ips`) applies "
        "them. Set `HOME_NET` to the addresses of the subscribers. The rules need the inline mode, "
        "`stream: {midstream: true, inline: yes}`, and `app-layer.protocols.tls: "
        "{encryption-handling: full}`: otherwise no rule sees TLS packets behind a handshake. Set "
        "every time of `flow-timeouts` longer than a flow is silent: Suricata forgets a flow then, "
        "with what it met."
    ),
    "nftables": (
        "`nft -c -f midcall.nft` tests the rules, `nft -f midcall.nft` loads them. Set "
        "`subscriber` at the top to the interface of the subscribers. Set the sysctl "
        "`net.netfilter.nf_conntrack_acct=1` (counts of a flow) and "
        "`net.netfilter.nf_conntrack_tcp_be_liberal=1` (streams that begin in the middle), and, "
        "for an ICMP error in answer to every packet, `net.ipv4.icmp_ratemask=0` and "
        "`net.ipv6.icmp.ratemask=3-127`."
    ),
    "iptables": (
        "`iptables-restore --test midcall.v4` tests the rules, `iptables-restore midcall.v4` and "
        "`ip6tables-restore midcall.v6` load them. `subscriber0` is the interface of the "
        "subscribers: replace the name. Set the sysctls `net.netfilter.nf_conntrack_acct=1` and "
        "`net.netfilter.nf_conntrack_tcp_be_liberal=1`, and, for an ICMP error in answer to every "
        "packet, `net.ipv4.icmp_ratemask=0` and `net.ipv6.icmp.ratemask=3-127`."
    ),
    "ndpi": (
        "`ndpiReader -p midcall.protos -i CAPTURE` names the flows that a rule matches; nDPI does "
        "not act on them. An application that uses nDPI loads the file with "
        "`ndpi_load_protocols_file`."
    ),
}


def readme(
    policy: Policy, made: Export, lines: dict[str, tuple[str, ...]], places: dict[str, KeyPlaces]
) -> str:
    """Return the README of an exported folder."""
    title = policy.name
    day = f" on {policy.date}" if policy.date else ""
    out = [f"# {title} for {made.engine}", ""]
    out += [f"{policy.title}. In force on {policy.access or 'every access network'}{day}.", ""]
    out += [LOADING[made.engine], "", "| rule | from | in the file |", "|---|---|---|"]
    for rule in policy.rules:
        where = ", ".join(lines.get(rule.name, ())) or "nothing"
        place = places.get(rule.name, {}).get("name", "not known")
        out.append(f"| {rule.name} | {place} | {where} |")
    if made.nearly:
        out += ["", "Approximate:", ""]
        out += [f"- {one.rule} ({place_of(one, places)}): {one.reason}" for one in made.nearly]
    return "\n".join([*out, ""])


#: "FILE:LINE" of each key of a rule, "name" among them; those of a match as "match.KEY".
KeyPlaces = dict[str, str]


def places_of(
    files: Sequence[Path], hypothesis: str, rules: Sequence[Rule]
) -> dict[str, KeyPlaces]:
    """Return where each rule stands in the TOML files that define it, by its name.

    A hypothesis that takes over another's rules (`rules_of`) is followed.
    """
    found: dict[str, dict[str, KeyPlaces]] = {}
    taken: dict[str, str] = {}
    for path in files:
        if path.suffix != ".toml":
            continue
        table, current, keys = "", "", KeyPlaces()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            text = line.strip()
            if text.startswith("["):
                table = text.partition("#")[0].strip("[] ")
                keys = keys if table.startswith("hypothesis.rule.") else KeyPlaces()
            key, equals, value = (part.strip() for part in text.partition("="))
            if not equals or text.startswith("#"):
                continue
            word = value.partition("#")[0].strip().strip("\"'")
            if table == "hypothesis" and key == "id":
                current = word
            elif table == "hypothesis" and key == "rules_of":
                taken[current] = word
            elif table.startswith("hypothesis.rule"):
                inner = table.removeprefix("hypothesis.rule").lstrip(".")
                keys[f"{inner}.{key}" if inner else key] = f"{path.name}:{number}"
                if table == "hypothesis.rule" and key == "name":
                    found.setdefault(current, {})[word] = keys
    own = found.get(taken.get(hypothesis, hypothesis), {})
    return {rule.name: own[rule.name] for rule in rules if rule.name in own}


def place_of(one: Refusal, places: dict[str, KeyPlaces]) -> str:
    """Return "FILE:LINE" of the key that a reason is about, "" where it is not known."""
    keys = places.get(one.rule, {})
    for word in re.findall(r"[a-z_]+(?:\.[a-z_]+)?", one.reason):
        if place := keys.get(word) or keys.get(word.partition(".")[0] if "." in word else ""):
            return place
    return keys.get("name", "")


def sentence(one: Refusal, places: dict[str, KeyPlaces]) -> str:
    """Return a refusal with the line that it is about: "FILE:LINE: RULE: REASON"."""
    return ": ".join(filter(None, (place_of(one, places), one.rule, one.reason)))
