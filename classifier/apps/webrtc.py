# SPDX-License-Identifier: BSD-3-Clause
"""Real-time media that names no app: ICE, TURN, DTLS-SRTP, RTP and RTCP of anyone.

"rtc" is an honest answer: the flow belongs to a call, and no octet says whose.
"""

from __future__ import annotations

from classifier.evidence import SHARED, evidence
from classifier.verdicts import (
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

ICE_CHECK = evidence(RTC, 1, CERTAIN, SETUP, 90, "ICE connectivity check")
TURN_USE = evidence(RTC, 2, CERTAIN, SETUP, 85, "TURN")
BARE_STUN = evidence(RTC, 3, UNSURE, SETUP, 50, "STUN Binding that names nobody")
DTLS_SRTP = evidence(RTC, 4, CERTAIN, SETUP, 95, "DTLS hello with use_srtp")
RTP_STREAM = evidence(RTC, 5, CERTAIN, MEDIA, 90, "RTP stream, payload type {n}")
RTP_HINT = evidence(RTC, 6, UNSURE, MEDIA, 50, "RTP-like packets, payload type {n}")
RTCP_STREAM = evidence(RTC, 7, CERTAIN, CONTROL, 85, "RTCP reports of one source")
RTCP_COMPOUND = evidence(RTC, 11, CERTAIN, CONTROL, 90, "RTCP packets that fill a datagram")
RTCP_HINT = evidence(RTC, 8, UNSURE, CONTROL, 50, "an RTCP packet")
RELAYED_MEDIA = evidence(RTC, 9, CERTAIN, MEDIA, 90, "RTP inside TURN")

# Shared sentences: the app is put in by whoever uses them.
NAMED_SOCKET, NAMED_STUN, NAMED_SDP, NAMED_DNS, NAMED_TLS = (SHARED + i for i in range(1, 6))
MEDIA_OF_CALL, STEADY, NAMED_QUIC = SHARED + 6, SHARED + 7, SHARED + 8
NAMED_CERTIFICATE, NAMED_SOURCE, ANNOUNCED, SAME_HOST = (SHARED + i for i in range(9, 13))
NAMED_PAIR, NAMED_FRAGMENT, NAMED_CUT = (SHARED + i for i in range(13, 16))
evidence(NONE, NAMED_SOCKET, UNSURE, SETUP, 80, "same socket as a flow of this app's call")
evidence(NONE, NAMED_STUN, UNSURE, SETUP, 80, "address learned from STUN of this app's call")
evidence(NONE, NAMED_SDP, UNSURE, SETUP, 90, "address announced by SDP or H.245")
evidence(NONE, NAMED_DNS, UNSURE, SETUP, 70, "address that DNS gave for a name of this app")
evidence(NONE, NAMED_TLS, NOT_CALL, OTHER, 80, "TLS server name of this app")
evidence(NONE, MEDIA_OF_CALL, UNSURE, MEDIA, 90, "RTP or RTCP in a flow of this app's call")
evidence(NONE, NAMED_QUIC, NOT_CALL, OTHER, 80, "QUIC server name of this app")
evidence(NONE, NAMED_CERTIFICATE, UNSURE, SETUP, 80, "certificate for a name of this app")
evidence(NONE, NAMED_SOURCE, UNSURE, MEDIA, 80, "a media source of this app's call")
evidence(NONE, NAMED_PAIR, UNSURE, SETUP, 70, "between the hosts of this app's call")
evidence(NONE, ANNOUNCED, UNSURE, MEDIA, 75, "RTP payload type {n}, announced by this host")
evidence(NONE, SAME_HOST, UNSURE, MEDIA, 65, "RTP payload type {n} at a host of this app's call")

evidence(NONE, NAMED_FRAGMENT, UNSURE, SETUP, 90, "ICE user name that this app's SDP announced")
evidence(NONE, NAMED_CUT, UNSURE, SETUP, 70, "at a host whose set-up of this app the snaplen cut")

NOTHING_FOUND = evidence(NONE, 1, NOT_CALL, OTHER, 60, "no sign of a call in {n} payloads")
IS_DNS = evidence(NONE, 2, NOT_CALL, OTHER, 95, "DNS")
IS_TLS = evidence(NONE, 3, NOT_CALL, OTHER, 80, "TLS, no name of an app with calls")
IS_QUIC = evidence(NONE, 4, NOT_CALL, OTHER, 80, "QUIC")
NO_PAYLOAD = evidence(NONE, 5, NOT_CALL, OTHER, 50, "no payload")
NOT_INSPECTED = evidence(NONE, 6, NOT_CALL, OTHER, 60, "neither UDP nor TCP")
OVERLOAD = evidence(NONE, 7, UNSURE, OTHER, 10, "not inspected: too many undecided flows at once")
BROADCAST = evidence(
    NONE, 10, NOT_CALL, OTHER, 85, "RTP of a broadcast: a multicast group, or MPEG (type {n})"
)
STREAMED = evidence(NONE, 11, NOT_CALL, OTHER, 85, "RTP that RTSP set up: a stream, no call")
IS_RTSP = evidence(NONE, 12, NOT_CALL, OTHER, 90, "RTSP")
IS_HTTP = evidence(NONE, 9, NOT_CALL, OTHER, 80, "HTTP, no name of an app with calls")
OPEN_QUIC = evidence(NONE, 8, NOT_CALL, OTHER, 90, "QUIC, no name of an app with calls")
