# SPDX-License-Identifier: BSD-3-Clause
"""The answer of a probe: a JSON document, text, and a policy that `policy check` accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.acts import Number
from midcall.experiments.probe.beliefs import COUNTS, Hypothesis
from midcall.experiments.probe.found import Found, Result, order_of
from midcall.experiments.probe.prober import Prober
from midcall.testbed.policy.language import INJECTED, Rule

Document = dict[str, Any]

#: Probability of an answer that does not fit the capture, as a share of its rules' own. Of first
#: answers to nine lists of policies (2026-12-02) 12 of 21 that name one rule and leave a sure
#: effect unexplained were right, 15 of 25 that name several, and 9 of 16 that predict an effect
#: which is not there.
MISFIT = 0.58
#: The begin of a rule that acts on its first matching packet.
AT_ONCE = {"unit": "packets", "value": 0, "since": "the first matching packet"}
#: Acts on a share of packets that are equal to another act on one packet in so many (one_in): that
#: act, and the parameter that is the share.
OF_A_SHARE = {"loss": ("drop", "loss"), "reorder": ("delay", "share")}
#: Equal hypotheses that are shown after the first.
SHOWN = 5


def document(result: Result, prober: Prober) -> Document:
    """Return the answer; its keys are described in docs/reference/probe.md."""
    first = result.found[0] if result.found else None
    answer: Document = {
        "blocked": result.verdict == "blocked",
        "verdict": result.verdict,
        "trigger": {},
        "act": {"name": None, "parameters": {}},
        "direction": None,
        "scope": None,
        "begin": {},
        "residual_s": None,
        "probability": clean(result),
        "rule_toml": "",
        "probes": prober.probes,
        "line_s": round(prober.line, 1),
        "alternatives": [],
    }
    if first is None:
        notes = [*result.notes, *([result.unseen.words] if result.unseen is not None else [])]
        answer["alternatives"] = [*unexplained(result), *map(reason, notes), *rewritten(prober)]
        return answer
    rule = first.rule
    answer |= {
        "trigger": trigger(first),
        "act": {"name": rule.act, "parameters": parameters(first)},
        "direction": direction(rule),
        "scope": rule.strikes,
        "begin": begin(first, rule),
        "residual_s": rule.lasts_s,
        "probability": round(probability(result), 4),
        "rule_toml": policy_toml([rule for one in order_of(result.found) for rule in one.rules]),
        "alternatives": [
            *alternatives(first),
            *(let_pass(rule, one) for one in result.found for rule in one.rules[:-1]),
            *(as_well(one) for one in result.found[1:]),
            *unexplained(result),
            *map(reason, result.notes),
            *rewritten(prober),
        ],
    }
    return answer


def clean(result: Result) -> float:
    """Return the probability that a line is clean on which no rule was found, 0 where that is not
    the verdict."""
    unseen = result.unseen
    return round(unseen.clean, 4) if unseen is not None and result.verdict == "clean" else 0.0


def probability(result: Result) -> float:
    """Return the probability that the rules found are all that is in force."""
    share = MISFIT if result.rest or result.contradicted else 1.0
    return share * math.prod(one.probability for one in result.found)


def unexplained(result: Result) -> Iterator[Document]:
    """Yield which effects no rule found explains; all of them where none was found."""
    why = (
        "no rule found explains: a further rule is in force, or the first has another scope; the "
        "capture without the packets that the first strikes would tell"
        if result.found
        else "no rule of the policy language was found to explain: rules that act together hide "
        "each other, or the rule needs what lies outside these packets; a capture of these flows "
        "alone may tell"
    )
    left = result.rest if result.found else result.findings
    for kind in sorted({one.kind for one in left}):
        flows = len({one.ends for one in left if one.kind == kind})
        show = "flow shows" if flows == 1 else "flows show"
        yield reason(f"{flows} {show} an effect ({kind}) that {why}")
    if result.contradicted:
        yield reason(
            "under the rules found, the capture would lose more than it does, or receive "
            "forged answers that it does not"
        )


def rewritten(prober: Prober) -> Iterator[Document]:
    """Yield which code points controls come with instead of their own."""
    words = [f"{sent} to {came} {'upwards' if up else 'downwards'}"
             for (up, sent), came in sorted(prober.rewrites.items()) if came != sent]  # fmt: skip
    if words:
        yield reason(
            f"controls come with other code points, too ({', '.join(words)}): the line itself "
            "rewrites them, or a rule that strikes everything alike"
        )


def direction(rule: Rule) -> str:
    """Return the direction of the packets that a rule acts on: up, down or both."""
    if rule.way is not None:
        return rule.way
    if rule.act == "dns-lie":
        return "up"
    if rule.strikes == "packet" and rule.match.direction is not None:
        return rule.match.direction
    return "both"


def trigger(found: Found) -> Document:
    """Return what sets a rule off: its match, the intervals of its numbers, and octets."""
    keys = found.best.keys
    result: Document = {
        "match": keys,
        "words": ", ".join(f"{key} = {value}" for key, value in keys.items()),
        "intervals": {
            key: {"low": round(float(low), 4), "high": round(float(high), 4)}
            for key, (low, high) in found.intervals.items()
            if key in keys or key.startswith("after")  # a condition may have been left out since
        },
    }
    if found.octets:
        result["octets"] = found.octets
    if found.allow_list.matches:
        result["spared"] = list(found.allow_list.matches)
        result["words"] += f"; except {result['spared']}"
    return result


def parameters(found: Found) -> Document:
    """Return the parameters of an act, with 95 % intervals where they are numbers."""
    rule = found.rule
    result: Document = {key: one.plain() for key, one in found.parameters.items()}
    for key in ("towards", "path", "answer"):
        if rule.act in INJECTED and key in rule.model_fields_set:
            result[key] = getattr(rule, key)
    if rule.act == "mark":
        result["code_point"] = rule.code_point
    if rule.act == "prioritise":
        result["first"] = rule.first
    if "probability" in result:
        result["per"] = rule.per
    if rule.act in ("shape", "prioritise") and "rate_kbit" in result and "queue_ms" not in result:
        result["queue_ms"] = {"value": None, "low": rule.queue_ms, "high": None}
    lasting = found.lasting
    if lasting is not None and lasting.seconds is None and lasting.watched:
        result["lasts_s"] = {"value": None, "low": lasting.watched, "high": None}
    return result


def begin(found: Found, rule: Rule) -> Document:
    """Return when the act begins: after an allowance, in a window of the flow, or at once."""
    if rule.after is not None:
        for key in (*COUNTS, "flows"):
            if value := getattr(rule.after, key):
                return {"unit": key, "value": value, "since": "the first matching packet",
                        **interval(found, f"after {key}")}  # fmt: skip
    for key in COUNTS:
        word = getattr(rule.match, key)
        if word is not None:
            low = str(word).split("-")[0] or "0"
            return {"unit": key, "value": float(low), "since": "the flow's first packet",
                    **interval(found, key)}  # fmt: skip
    return AT_ONCE


def interval(found: Found, key: str) -> Document:
    """Return the interval of a number, {} for none."""
    if key not in found.intervals:
        return {}
    low, high = found.intervals[key]
    return {"low": round(float(low), 4), "high": round(float(high), 4)}


def alternatives(found: Found) -> list[Document]:
    """Return other rules: those that no packet tells from the first, of these one of each scope and
    direction at least, and the next likely ones; then what could not be determined."""
    result = [*equal_acts(found)]
    for one in different_first(found.equal, SHOWN):
        result.append(entry(one, "equal", found, None, "no unit tells it from the first"))
    known = {one for one, _ in found.weights[:1]} | {found.best, *found.equal}
    less = [(one, weight) for one, weight in found.weights
            if one not in known and not found.refutes(one) and weight > 0.001]  # fmt: skip
    for one, weight in less[:SHOWN]:
        result.append(entry(one, "less likely", found, weight, "the probes fit it less"))
    if found.lasting is not None and found.lasting.why_not:
        result.append(reason(f"how long a condemnation lasts: {found.lasting.why_not}"))
    if found.classes is not None and found.classes.first and found.classes.cross is None:
        result.append(reason("how much cross-traffic shares the queue is not known"))
    return [*result, *(reason(note) for note in found.notes)]


def different_first(equal: Sequence[Hypothesis], most: int) -> list[Hypothesis]:
    """Return one hypothesis of each scope, direction, and kind of allowance, and others up to
    `most`."""
    first: dict[tuple[object, ...], Hypothesis] = {}
    for one in equal:
        after = one.allowance
        way = one.way, one.keys.get("direction")
        first.setdefault((one.scope, *way, one.media, *after, after.get("per")), one)
    others = [one for one in equal if one not in first.values()]
    return [*first.values(), *others[: max(most - len(first), 0)]]


def equal_acts(found: Found) -> Iterator[Document]:
    """Yield acts that no packet can tell from the one that is named."""
    rule = found.rule
    act = rule.act

    def equal(name: str, why: str, **more: Any) -> Document:
        return {"relation": "equal", "act": name, "scope": rule.strikes,
                "direction": direction(rule), "why": why} | more  # fmt: skip

    if act == "stall":
        yield equal("drop", "a drop with the same allowance is the same act")
    later = rule.after is not None or begins_later(rule)
    if act == "drop" and later:
        yield equal("stall", "a stall is a drop from a later packet, byte or second on")
    if act in ("drop", "stall"):
        yield equal("loss", "with loss = 1 it drops every packet")
        yield equal("censor", "a function of one's own can do the same")
        opens = not later and (any(not one.payload for one in found.core) or opened_by(rule))
        if not (opens and any(one.ends.proto == TCP for one in found.core)):
            yield equal("unreachable", "of the ICMP errors only one that answers a SYN shows")
        elif opens and act == "drop":
            yield equal("finish", "a FIN that answers a SYN shows in no socket")
            yield equal("reset", "a server sees no reset of a SYN that it never received",
                        towards="server")  # fmt: skip
        if all(one.ends.proto != TCP for one in found.core):
            yield equal("reset", "on datagrams a reset in the path only drops")
            yield equal("finish", "on datagrams a FIN in the path only drops")
    if act == "reset" and rule.towards != "server" and found.refused:
        yield equal("unreachable", "an ICMP error that answers a SYN refuses it as a reset does")
    if act == "loss" and not rule.burst:
        yield equal("corrupt", "a receiver discards a packet whose checksum is wrong")
    whole, share = OF_A_SHARE.get(act, ("", ""))
    within = found.parameters.get(share) if whole and not rule.burst else None
    part = round(1 / max(within.value, 1e-6)) if within is not None else 0
    if within is not None and part > 1 and is_near(1 / part, within):
        yield equal(whole, f"of one packet in {part}, drawn at random (one_in)", scope="packet")
    if act == "shape" and found.classes is None and rule.strikes not in ("packet", "flow"):
        yield equal("prioritise", "packets without a mark wait in it as in a queue of one class")
    if act == "jitter":
        yield equal("delay", "with a mean of 3.5 deviations it is the same act")
    if act == "delay" and "jitter_ms" in found.parameters:
        mean, spread = found.parameters["delay_ms"], found.parameters["jitter_ms"]
        if mean.low <= 3.5 * spread.high and mean.high >= 3.5 * spread.low:
            yield equal("jitter", "3.5 deviations are about the mean delay")


def is_near(value: float, number: Number) -> bool:
    """Return whether a value lies within an interval that is half as wide again as that of a
    number: 95 % intervals leave out one true value in twenty, these one in some 300."""
    more = (number.high - number.low) / 4
    return number.low - more <= value <= number.high + more


def opened_by(rule: Rule) -> bool:
    """Return whether a SYN can meet a rule: one that reads neither payloads nor sizes."""
    keys = set(rule.match.model_dump(exclude_defaults=True))
    return not keys - {"protocol", "ports", "addresses", "direction", "packets", "resolved"}


def begins_later(rule: Rule) -> bool:
    """Return whether a rule strikes a flow from a later packet, byte or second on."""
    words = (rule.match.packets, rule.match.bytes, rule.match.seconds)
    return any(word is not None and str(word).endswith("-") for word in words)


def entry(one: Hypothesis, relation: str, found: Found, weight: float | None, why: str) -> Document:
    """Return one hypothesis as an entry of the alternatives."""
    rule = one.rule(found.act or ({"act": "stall"} if one.after else None)) or one.rule()
    result: Document = {"relation": relation, "rule": one.words, "why": why}
    if rule is not None:
        result |= {"act": rule.act, "scope": rule.strikes, "direction": direction(rule)}
    if weight is not None:
        result["probability"] = round(weight, 4)
    return result


def as_well(found: Found) -> Document:
    """Return a second rule that is in force as well."""
    rule = found.rule
    return {
        "relation": "as well", "rule": found.best.words, "act": rule.act, "scope": rule.strikes,
        "direction": direction(rule), "trigger": trigger(found), "parameters": parameters(found),
        "begin": begin(found, rule), "residual_s": rule.lasts_s,
        "probability": round(found.probability, 4),
        "equal": [{key: one[key] for key in ("act", "scope", "direction")}
                  for one in alternatives(found) if one["relation"] == "equal" and "act" in one],
        "why": "effects that the first does not explain",
    }  # fmt: skip


def let_pass(rule: Rule, found: Found) -> Document:
    """Return a rule in front of one that was found, which lets packets pass. Only where it reads
    payloads, and not of QUIC alone, do packets show whether it lets each of them or the whole flow
    pass."""
    match = rule.match.model_dump(mode="json", exclude_defaults=True)
    words = ", ".join(f"{key} = {value}" for key, value in match.items())
    whole = {"act": "pass", "scope": "flow", "direction": "both"}
    known = "payload" in match and found.allow_list.whole is not None
    return {
        "relation": "as well", "rule": words, "act": "pass", "scope": rule.strikes,
        "direction": "both", "trigger": {"match": match, "words": words, "intervals": {}},
        "parameters": {}, "begin": AT_ONCE, "residual_s": None,
        "probability": round(found.probability, 4), "equal": [] if known else [whole],
        "why": "what a rule found would strike, but lets pass",
    }  # fmt: skip


def reason(note: str) -> Document:
    """Return a sentence on what could not be determined."""
    return {"relation": "cannot tell", "why": note}


# ---- as a policy


def policy_toml(rules: list[Rule]) -> str:
    """Return rules as an operator's file of the policy language."""
    lines = [
        "# Found by `midcall probe`.", "", 'id = "found"', 'title = "Found by probing"',
        'country = "ZZ"', "", "[[period]]",
        'access = ["3g", "4g", "adsl", "fibre", "wifi"]', "from = 2000-01-01", 'grade = "A"',
        'source = "midcall probe"', "", "[[hypothesis]]", 'id = "found"',
        'title = "The rule that the probes fit best"',
        'description = "An equivalent rule: what no packet can tell apart is left open."',
    ]  # fmt: skip
    for number, rule in enumerate(rules, 1):
        lines += ["", "[[hypothesis.rule]]", f'name = "found-{number}"']
        fields = rule.model_dump(exclude_unset=True, exclude={"name", "digest"}, by_alias=True)
        lines += [f"{key} = {toml(value)}" for key, value in fields.items()]
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """Return a value in TOML's inline form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return repr(round(value, 6))
    return str(value)


# ---- as text


def lines(answer: Document, result: Result, prober: Prober) -> Iterator[str]:
    """Yield the answer for a person."""
    yield f"verdict      {answer['verdict']}"
    if answer["act"]["name"] is not None:
        yield f"trigger      {answer['trigger']['words']}"
        yield f"act          {answer['act']['name']}{numbers_words(answer['act']['parameters'])}"
        yield f"direction    {answer['direction']}"
        yield f"scope        {answer['scope']}"
        start = answer["begin"]
        yield f"begin        {start['value']:g} {start['unit']} since {start['since']}"
        residual = answer["residual_s"]
        yield f"residual     {'no end seen' if residual is None else f'{residual:g} s'}"
    if answer["act"]["name"] is not None or answer["verdict"] == "clean":
        yield f"probability  {answer['probability']:.3f}"
    for one in answer["alternatives"]:
        words = one.get("rule") or one.get("act") or ""
        chance = f" ({one['probability']:.3f})" if "probability" in one else ""
        yield f"{one['relation']:<12} {words}{chance}{': ' if words else ''}{one['why']}"
    if answer["rule_toml"]:
        yield ""
        yield answer["rule_toml"].rstrip()
    yield ""
    yield (
        f"cost         {answer['probes']} probes, {answer['line_s']:g} s of line time, "
        f"{prober.watched:.0f} s of watching how long a block lasts"
    )
    if result.base is not None:
        yield (
            f"line         loss {max(result.base.loss):.1%}, delay "
            f"{result.base.fixed[1] / 1e6:.0f} and {result.base.fixed[0] / 1e6:.0f} ms"
        )


def numbers_words(about: Document) -> str:
    """Return parameters in words."""
    words = []
    for key, value in about.items():
        if isinstance(value, dict):
            if value["value"] is None:
                words.append(f"{key} beyond {value['low']:g}")
            else:
                words.append(f"{key} {value['value']:g} ({value['low']:g} to {value['high']:g})")
        else:
            words.append(f"{key} {value}")
    return f", {', '.join(words)}" if words else ""
