# SPDX-License-Identifier: BSD-3-Clause
"""The slots of `signs`: fields of one packet that each reader leaves for the later ones.

`signs` is one int64[SIGNS] scratch array per engine, overwritten by every packet. Offsets are
positions in the packet's buffer, lengths are in bytes, and 0 means "absent" unless noted otherwise.
"""

from __future__ import annotations

# A host name in this packet, and its kind. Its text is in SIGN_TEXT below. SIGN_NAME_AT is 0 if no
# single packet holds the name in plain text: its hello was reassembled
# (classifier.state.hello_buffers) or decrypted (QUIC).
SIGN_NAME_AT, SIGN_NAME_LENGTH, SIGN_NAME_KIND = 0, 1, 2
NAME_NONE, NAME_SNI, NAME_DNS_QUESTION, NAME_HTTP_HOST, NAME_QUIC_SNI, NAME_DNS_ANSWER = range(6)

# The fields that decoding sets, 3 to 28. classifier.parallel stores these for each packet.
SIGN_IP_AT = 3  # the innermost IP header
SIGN_PAYLOAD_AT = 4  # the transport's payload ...
SIGN_PAYLOAD_END = 5  # ... up to where it was captured
SIGN_PROTO = 6  # IP protocol number
SIGN_UP = 7  # 1: the packet goes from its flow's source to its target
SIGN_IP_SIZE = 8  # bytes of the innermost IP packet on the wire (a snaplen cuts the rest)
SIGN_VERSION = 9  # 4 or 6
SIGN_SOURCE_PORT, SIGN_TARGET_PORT = 10, 11
SIGN_TCP_FLAGS = 12
SIGN_PAYLOAD_SIZE = 13  # payload bytes on the wire, by the IP header (a snaplen cuts the rest)
SIGN_FRAGMENT = 14  # 1: a fragment that does not hold the transport header
SIGN_TCP_SEQUENCE = 15
SIGN_SOURCE_AT, SIGN_TARGET_AT = 16, 17  # addresses in the innermost IP header
SIGN_TUNNELS = 18  # encapsulations removed
SIGN_IP_END = 19  # end of the captured part of the innermost IP packet
SIGN_SOURCE = 20  # the address as four lanes of 32 bits; IPv4 uses only the first
SIGN_TARGET = 24
SIGN_FLOW = 28  # hash of the flow, under the key of its table

# The STUN message in the payload (the innermost one, where TURN nests them).
SIGN_STUN = 29  # its type + 1, 0 when the payload is not STUN
SIGN_STUN_AT = 30  # its header
SIGN_STUN_END = 31
SIGN_STUN_FIRST = 32  # first attribute + 1
SIGN_STUN_TRAITS = 33  # bits of classifier.protocols.stun
SIGN_STUN_PEER = 34  # XOR-PEER-ADDRESS attribute's value
SIGN_STUN_MAPPED = 35  # XOR-MAPPED-ADDRESS attribute's value
SIGN_STUN_RELAYED = 36  # XOR-RELAYED-ADDRESS attribute's value
SIGN_STUN_REALM, SIGN_STUN_REALM_LENGTH = 37, 38
SIGN_STUN_DATA, SIGN_STUN_DATA_END = 39, 40  # DATA attribute's value
SIGN_STUN_COUNT = 41  # attributes read
SIGN_STUN_USER, SIGN_STUN_USER_LENGTH = 42, 43  # USERNAME attribute

# The RTP packet in the payload.
SIGN_RTP_AT = 44
SIGN_RTP_PROFILE = 45  # header extension profile + 1

SIGN_NAMELESS = 46  # 1: host names are ignored (Engine(names=False)), for ablation

# The host name itself, in lower case and dots, one octet per slot. Set with SIGN_NAME_KIND.
SIGN_TEXT_LENGTH = 47
SIGN_TEXT = 48

# The ClientHello that this packet holds or completes.
SIGN_HELLO_PRINT = SIGN_TEXT + 256  # 62-bit fingerprint (classifier.protocols.hello), 0: none
SIGN_ALPN = SIGN_TEXT + 257  # with a print: its first protocol name, at most 7 octets, big-endian

# Scratch for keys and blocks while a QUIC Initial is decrypted.
SIGN_SCRATCH = SIGN_TEXT + 258

# 1: decoding met a fragment, so that the fields depend on earlier packets.
SIGN_PIECE = SIGN_SCRATCH + 256

SIGNS = SIGN_PIECE + 1
