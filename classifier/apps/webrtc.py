# SPDX-License-Identifier: BSD-3-Clause
"""Evidence that is not specific to one app, of calls and of other protocols.

ICE, TURN, DTLS-SRTP, RTP and RTCP show a call. If no octet shows the app of the call, the app is
"rtc". The SHARED evidence gives the app of a related flow, of set-up or of a host name. The rest
shows that a flow is not a call, or why it was not inspected.
"""

from __future__ import annotations

from midcall.classifier.state.evidence import SHARED, evidence
from midcall.classifier.state.verdicts import (
    CERTAIN,
    CONTROL,
    MEDIA,
    NONE,
    NOT_CALL,
    OTHER,
    RTC,
    SETUP,
    UNSURE,
)

ICE_CHECK = evidence(RTC, 1, CERTAIN, SETUP, "ICE connectivity check", spec="RFC 8445")
TURN_USE = evidence(RTC, 2, CERTAIN, SETUP, "TURN", spec="RFC 8656")
BARE_STUN = evidence(RTC, 3, UNSURE, SETUP, "STUN Binding that names nobody", spec="RFC 8489")
DTLS_SRTP = evidence(RTC, 4, CERTAIN, SETUP, "DTLS hello with use_srtp", spec="RFC 5764")
RTP_STREAM = evidence(RTC, 5, CERTAIN, MEDIA, "RTP stream, payload type {n}", spec="RFC 3550")
RTP_HINT = evidence(RTC, 6, UNSURE, MEDIA, "RTP-like packets, payload type {n}", spec="RFC 3550")
RTCP_STREAM = evidence(RTC, 7, CERTAIN, CONTROL, "RTCP reports of one source", spec="RFC 3550")
RTCP_COMPOUND = evidence(
    RTC, 11, CERTAIN, CONTROL, "RTCP packets that fill a datagram", spec="RFC 3550"
)
RTCP_HINT = evidence(RTC, 8, UNSURE, CONTROL, "an RTCP packet", spec="RFC 3550")
RELAYED_MEDIA = evidence(RTC, 9, CERTAIN, MEDIA, "RTP inside TURN", spec="RFC 8656, RFC 3550")

# Evidence with the same sentence for every app: the code that calls `pack` gives the app.
NAMED_SOCKET, NAMED_STUN, NAMED_SDP, NAMED_DNS, NAMED_TLS = (SHARED + i for i in range(1, 6))
MEDIA_OF_CALL, STEADY, NAMED_QUIC = SHARED + 6, SHARED + 7, SHARED + 8
NAMED_CERTIFICATE, NAMED_SOURCE, ANNOUNCED, SAME_HOST = (SHARED + i for i in range(9, 13))
NAMED_PAIR, NAMED_FRAGMENT, NAMED_CUT = (SHARED + i for i in range(13, 16))
evidence(NONE, NAMED_SOCKET, UNSURE, SETUP, "same socket as a flow of this app's call")
evidence(NONE, NAMED_STUN, UNSURE, SETUP, "address learned from STUN of this app's call")
evidence(NONE, NAMED_SDP, UNSURE, SETUP, "address announced by SDP or H.245")
evidence(NONE, NAMED_DNS, UNSURE, SETUP, "address that DNS gave for a name of this app")
evidence(NONE, NAMED_TLS, NOT_CALL, OTHER, "TLS server name of this app")
evidence(NONE, MEDIA_OF_CALL, UNSURE, MEDIA, "RTP or RTCP in a flow of this app's call")
evidence(NONE, NAMED_QUIC, NOT_CALL, OTHER, "QUIC server name of this app")
evidence(NONE, NAMED_CERTIFICATE, UNSURE, SETUP, "certificate for a name of this app")
evidence(NONE, NAMED_SOURCE, UNSURE, MEDIA, "a media source of this app's call")
evidence(NONE, NAMED_PAIR, UNSURE, SETUP, "between the hosts of this app's call")
evidence(NONE, ANNOUNCED, UNSURE, MEDIA, "RTP payload type {n}, announced by this host")
evidence(NONE, SAME_HOST, UNSURE, MEDIA, "RTP payload type {n} at a host of this app's call")

evidence(NONE, NAMED_FRAGMENT, UNSURE, SETUP, "ICE user name that this app's SDP announced")
evidence(NONE, NAMED_CUT, UNSURE, SETUP, "at a host whose set-up of this app the snaplen cut")

NOTHING_FOUND = evidence(NONE, 1, NOT_CALL, OTHER, "no sign of a call in {n} payloads")
IS_DNS = evidence(NONE, 2, NOT_CALL, OTHER, "DNS", spec="RFC 1035")
IS_TLS = evidence(NONE, 3, NOT_CALL, OTHER, "TLS, no name of an app with calls", spec="RFC 8446")
IS_QUIC = evidence(NONE, 4, NOT_CALL, OTHER, "QUIC", spec="RFC 9000")
NO_PAYLOAD = evidence(NONE, 5, NOT_CALL, OTHER, "no payload")
NOT_INSPECTED = evidence(
    NONE, 6, NOT_CALL, OTHER, "neither UDP nor TCP", spec="none: not inspected"
)
OVERLOAD = evidence(
    NONE,
    7,
    UNSURE,
    OTHER,
    "not inspected: too many undecided flows at once",
    spec="none: not inspected",
)
BROADCAST = evidence(
    NONE,
    10,
    NOT_CALL,
    OTHER,
    "RTP of a broadcast: a multicast group, or MPEG (type {n})",
    spec="RFC 3551",
)
STREAMED = evidence(
    NONE, 11, NOT_CALL, OTHER, "RTP that RTSP set up: a stream, no call", spec="RFC 7826"
)
IS_RTSP = evidence(NONE, 12, NOT_CALL, OTHER, "RTSP", spec="RFC 7826", shows=((0, 4, "RTSP"),))
IS_HTTP = evidence(
    NONE,
    9,
    NOT_CALL,
    OTHER,
    "HTTP, no name of an app with calls",
    spec="RFC 9112",
    shows=((0, 4, "HTTP"),),
)
OPEN_QUIC = evidence(
    NONE, 8, NOT_CALL, OTHER, "QUIC, no name of an app with calls", spec="RFC 9001"
)
