# SPDX-License-Identifier: BSD-3-Clause
"""Words of text protocols, which say nothing about a person: a pack keeps them, and no others.

Names of methods, headers, attributes, codecs and formats, from the IANA registries of SIP, SDP,
RTP, HTTP and RTSP, commands of FTP, SMTP, POP and IMAP (RFC 959, 5321, 1939, 9051), and the words
with which messages of BitTorrent's DHT begin (BEP 5).
"""

from __future__ import annotations

_TEXT = """
sip sips tel invite ack bye cancel register options prack update subscribe notify refer message
info publish ringing trying ok session progress unauthorized forbidden busy here not found request
terminated proxy authentication required temporarily unavailable accepted moved method allowed
timeout gone via from to tag branch call id cseq contact max forwards expires allow supported
require unsupported accept encoding language content type length disposition record route user
agent server authorization www authenticate digest realm nonce opaque uri response algorithm md5
qop auth nc cnonce username stale min se refresher uac uas replaces norefersub outbound path gruu
reason event state subscription privacy asserted identity preferred warning organization subject
date retry after reply sdp application udp tcp tls sctp wss ws transport rport received lr ob
instance reg sip2 z9hg4bk cause text 100rel timer histinfo precondition eventlist join in ip4 ip6
audio video image rtp avp savp avpf savpf udptl t38 rtpmap fmtp ptime maxptime sendrecv sendonly
recvonly inactive rtcp mux fb candidate typ host srflx prflx relay raddr generation network cost
ice ufrag pwd trickle fingerprint sha setup actpass active passive mid msid semantic wms ssrc
group fid bundle lip sync extmap urn ietf params hdrext toffset abs send time ext orientation
crypto aes cm hmac inline unencrypted srtp msection pcmu pcma gsm g722 g723 g726 g729 g729a g729b
l16 opus isac ilbc speex amr wb evs telephone tone cn red ulpfec rtx h261 h263 h264 h265 vp8 vp9
av1 jpeg mpv silk siren g7221 annexb profile level packetization mode apt minptime useinbandfec
usedtx stereo bitrate maxaveragebitrate ccm fir nack pli goog remb cc tmmbr faxversion
faxmaxbuffer faxmaxdatagram faxratemanagement faxudpec faxfillbitremoval faxtranscodingmmr
faxtranscodingjbig transferredtcf redundancy maxbitrate t38faxversion t38maxbitrate
t38faxratemanagement t38faxmaxbuffer t38faxmaxdatagram t38faxudpec t38udpredundancy
t38faxfillbitremoval t38faxtranscodingmmr t38faxtranscodingjbig get post head put delete connect
patch trace http https ftp connection keep alive close upgrade websocket key version extensions
protocol origin referer cookie set secure httponly samesite lax strict none age domain cache
control no store public private revalidate must pragma etag last modified since if match
unmodified range bytes transfer chunked gzip deflate br zstd vary location html xml json plain
javascript css png gif webp svg octet stream form data multipart urlencoded x charset utf iso true
false permanently bad gateway error internal service created partial multiple choices see other
redirect continue switching protocols access methods headers expose credentials security policy
frame deny sameorigin nosniff mozilla compatible play pause teardown describe announce interleaved
rtsp client port unicast multicast npt search ssdp discover man mx st nt nts usn upnp device
schemas org ns rootdevice byebye uuid local arpa addr com net edu gov lan home localdomain pass
cwd pasv epsv eprt list retr stor quit syst feat noop dele rnfr rnto mkd rmd size mdtm rest opts
clnt site abor nlst appe binary ascii logged login incorrect entering directory complete opening
closing welcome goodbye ready helo ehlo mail rcpt rset vrfy starttls cram pipelining 8bitmime
enhancedstatuscodes smtputf8 esmtp smtp pop3 imap4rev1 capability select fetch uid flags logout
stls uidl top stat apop mgcp crcx mdcx dlcx rqnt ntfy auep aucx rsip epcf megaco ssh openssh
libssh bittorrent rfb irc nick privmsg ping pong h2 h3 h2c spdy quic hq doq dot coap mqtt xmpp
imap pop webrtc stun turn role conflict allocation mismatch wrong a b c e i k m o p r s t u v z as
d1 ad2 rd2 id20 rr rs ct tias q d h l f n
"""

WORDS = frozenset(_TEXT.encode().split())
#: Words that host names keep: top-level and special domains.
HOST_WORDS = frozenset(
    b"com net org edu gov local localdomain arpa in addr ip6 lan home internal".split()
)
