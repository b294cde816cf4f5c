"""Session descriptions as devices send them."""

AUDIO = (
    b"v=0\r\no=alice 2890844526 7 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n"
    b"m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
)

ICE = (
    b"v=0\r\no=- 46117 2 IN IP4 198.51.100.4\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-options:trickle\r\n"
    b"m=audio 54400 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 198.51.100.4\r\na=rtcp:54402 IN IP4 198.51.100.5\r\n"
    b"a=ice-ufrag:F7gI\r\na=ice-pwd:x9cml\r\na=candidate:1 1 UDP 2122 192.168.0.2 54400 typ host\r\n"
    b"a=end-of-candidates\r\na=rtcp-mux\r\na=rtcp-fb:111 transport-cc\r\na=rtpmap:111 opus/48000/2\r\na=mid:0\r\n"
    b"m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=bundle-only\r\n"
)

T38 = (
    b"v=0\r\no=- 5 5 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
    b"m=audio 0 RTP/AVP 0\r\nm=image 6000 udptl t38\r\na=T38FaxVersion:0\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n"
)

IPV6 = b"v=0\r\no=- 5 5 IN IP6 2001:db8::7\r\ns=-\r\nc=IN IP6 2001:DB8:0:0::7\r\nt=0 0\r\nm=audio 6000 RTP/AVP 8\r\n"


def audio(host: str, port: int, *lines: bytes, formats: bytes = b"0") -> bytes:
    """A plain audio description, with more attribute lines as given."""
    address = b"IN IP%d %b" % (6 if ":" in host else 4, host.encode())
    head = b"v=0\r\no=- 1 1 %b\r\ns=-\r\nc=%b\r\nt=0 0\r\nm=audio %d RTP/AVP %b\r\n" % (address, address, port, formats)
    return head + b"".join(line + b"\r\n" for line in lines)
