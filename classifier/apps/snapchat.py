# SPDX-License-Identifier: BSD-3-Clause
"""Snapchat calls: RTP and RTCP share one UDP flow with QUIC.

Facts. The flow to a relay on UDP 443 opens with Google QUIC (Q046) and then carries SRTCP receiver
reports and SRTP with one-octet extensions between QUIC's short headers. No other app is known to do
so. Shown by snapchat_call (2020), whose capture ends where media begins.
"""

from __future__ import annotations

from classifier.evidence import evidence
from classifier.verdicts import CERTAIN, CONTROL, MEDIA, SNAPCHAT

REPORTS = evidence(SNAPCHAT, 1, CERTAIN, CONTROL, 80, "RTCP of one source within a QUIC flow")
STREAM = evidence(SNAPCHAT, 2, CERTAIN, MEDIA, 80, "RTP stream within a QUIC flow")
