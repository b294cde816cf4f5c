"""Digest as a client: the vectors of RFC 2617 §3.5, RFC 7616 §3.9 (with erratum 4897), and the rules around them."""

from __future__ import annotations

import hashlib
import random
import re

import pytest

from proxy.sip.digest import Challenge, DigestClient, authorization, parse_challenges
from proxy.sip.message import Request, Response, field


class FixedRandom(random.Random):
    """Yields a cnonce that the test knows."""

    def getrandbits(self, k: int, /) -> int:
        return 0x0A4F113B


CNONCE = b"000000000a4f113b"


def request(method: bytes = b"INVITE", uri: bytes = b"sip:b@example.com", body: bytes = b"") -> Request:
    return Request(method, uri, [], body)


def challenged(*challenges: bytes, status: int = 401) -> Response:
    name = b"WWW-Authenticate" if status == 401 else b"Proxy-Authenticate"
    return Response(status, b"", [field(name, challenge) for challenge in challenges])


def params(value: bytes) -> dict[str, str]:
    assert value.startswith(b"Digest ")
    pairs = re.findall(r'([a-z*]+)=(?:"([^"]*)"|([^,]*))', value.decode())
    return {name: quoted or plain for name, quoted, plain in pairs}


def answer(client: DigestClient, asked: Request, response: Response) -> dict[str, str]:
    ((key, line),) = client.answer(asked, response)
    assert key == (b"authorization" if response.status == 401 else b"proxy-authorization")
    return params(line.partition(b": ")[2])


def h(text: str, name: str = "md5") -> str:
    return hashlib.new(name, text.encode()).hexdigest()


RFC2617 = (
    b'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
    b'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)
RFC7616 = (
    b'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=%b, '
    b'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
RFC7616_SHA512 = (
    b'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
    b'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
    b'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8'
)
RFC7616_CNONCE = b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("challenge", "user", "password", "uri", "cnonce", "response"),
    [
        (
            RFC2617, "Mufasa", "Circle Of Life", b"/dir/index.html", b"0a4f113b",
            "6629fae49393a05397450978507c4ef1",
        ),
        (
            RFC7616 % b"MD5", "Mufasa", "Circle of Life", b"/dir/index.html", RFC7616_CNONCE,
            "8ca523f5e9506fed4657c9700eebdbec",
        ),
        (
            RFC7616 % b"SHA-256", "Mufasa", "Circle of Life", b"/dir/index.html", RFC7616_CNONCE,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
        (
            RFC7616_SHA512, "Jäsøn Doe", "Secret, or not?", b"/doe.json",
            b"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
            "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5",
        ),
    ],
    ids=["rfc2617", "rfc7616-md5", "rfc7616-sha256", "rfc7616-sha512-256"],
)  # fmt: skip
def test_published_vectors(
    challenge: bytes, user: str, password: str, uri: bytes, cnonce: bytes, response: str
) -> None:
    (parsed,) = parse_challenges([challenge])
    found = params(authorization(parsed, user.encode(), password.encode(), b"GET", uri, b"", cnonce, 1))
    assert found["response"] == response
    assert (found["username"], found["uri"], found["nc"]) == (user, uri.decode(), "00000001")
    assert (found["qop"], found["cnonce"]) == ("auth", cnonce.decode())


def test_challenge_without_qop_is_answered_as_rfc_2069() -> None:
    client = DigestClient(b"bob", b"zanzibar", FixedRandom())
    found = answer(client, request(), challenged(b'Digest realm="biloxi.com", nonce="n", opaque=""'))
    expected = h(f"{h('bob:biloxi.com:zanzibar')}:n:{h('INVITE:sip:b@example.com')}")
    assert found == {
        "username": "bob", "realm": "biloxi.com", "nonce": "n", "uri": "sip:b@example.com",
        "response": expected, "opaque": "",
    }  # fmt: skip


@pytest.mark.parametrize(("algorithm", "name"), [("MD5-sess", "md5"), ("SHA-256-sess", "sha256")])
def test_session_algorithms_key_with_the_nonces(algorithm: str, name: str) -> None:
    client = DigestClient(b"bob", b"pw", FixedRandom())
    text = f'Digest realm="r", nonce="n", qop="auth", algorithm={algorithm}'
    found = answer(client, request(), challenged(text.encode()))
    cnonce = CNONCE.decode()
    key = h(f"{h('bob:r:pw', name)}:n:{cnonce}", name)
    action = h("INVITE:sip:b@example.com", name)
    assert found["response"] == h(f"{key}:n:00000001:{cnonce}:auth:{action}", name)
    assert found["algorithm"] == algorithm


def test_auth_int_covers_the_body() -> None:
    client = DigestClient(b"bob", b"pw", FixedRandom())
    found = answer(client, request(body=b"v=0"), challenged(b'Digest realm="r", nonce="n", qop="auth-int"'))
    action = h(f"INVITE:sip:b@example.com:{h('v=0')}")
    assert found["response"] == h(f"{h('bob:r:pw')}:n:00000001:{CNONCE.decode()}:auth-int:{action}")
    assert found["qop"] == "auth-int"


def test_topmost_known_algorithm_is_chosen() -> None:
    """RFC 8760 §2.4: the server lists its preferences first."""
    client = DigestClient(b"bob", b"pw", FixedRandom())
    offers = [b'Digest realm="r", nonce="%d", algorithm=%b' % pair for pair in
              [(1, b"BLAKE3"), (2, b"SHA-256"), (3, b"MD5")]]  # fmt: skip
    assert answer(client, request(), challenged(*offers))["nonce"] == "2"


def test_challenges_in_one_line_are_told_apart() -> None:
    line = (
        b'Basic realm="b, x=\\"y\\"", Digest realm="one, Digest nonce=z", nonce="1",qop="auth",stale=TRUE ,'
        b' DIGEST\r\n  realm = two ,nonce="2" , algorithm="MD5"'
    )
    assert parse_challenges([line]) == [
        Challenge(b"one, Digest nonce=z", b"1", b"", (b"auth",), None, True),
        Challenge(b"two", b"2", b"MD5"),
    ]


def test_every_realm_gets_its_answer_and_proxies_their_own_header() -> None:
    client = DigestClient(b"bob", b"pw", FixedRandom())
    response = challenged(b'Digest realm="a", nonce="1"', b'Digest realm="b", nonce="2"', status=407)
    fields = client.answer(request(), response)
    assert [key for key, _ in fields] == [b"proxy-authorization"] * 2
    assert [params(line.partition(b": ")[2])["realm"] for _, line in fields] == ["a", "b"]


def test_credentials_of_an_earlier_proxy_stay_when_the_server_asks_too() -> None:
    client = DigestClient(b"bob", b"pw", FixedRandom())
    asked = request()
    asked.fields += client.answer(asked, challenged(b'Digest realm="p", nonce="1"', status=407))
    fields = client.answer(asked, challenged(b'Digest realm="s", nonce="2"'))
    assert [key for key, _ in fields] == [b"proxy-authorization", b"authorization"]


def test_nonce_count_grows_with_each_request_and_starts_anew_with_a_nonce() -> None:
    client = DigestClient(b"bob", b"pw", FixedRandom())
    asked = request()
    challenge = b'Digest realm="r", nonce="%b", qop="auth"'
    assert answer(client, asked, challenged(challenge % b"1"))["nc"] == "00000001"
    ((_, line),) = client.fields(b"BYE", b"sip:b@example.com")
    assert params(line.partition(b": ")[2])["nc"] == "00000002"
    for _ in range(8):
        ((_, line),) = client.fields(b"BYE", b"sip:b@example.com")
    assert params(line.partition(b": ")[2])["nc"] == "0000000a"
    assert answer(client, request(), challenged(challenge % b"2"))["nc"] == "00000001"


def test_refused_credentials_are_not_tried_again() -> None:
    client = DigestClient(b"bob", b"wrong", FixedRandom())
    asked = request()
    asked.fields += client.answer(asked, challenged(b'Digest realm="r", nonce="1"'))
    assert client.answer(asked, challenged(b'Digest realm="r", nonce="2"')) == []
    assert client.fields(b"BYE", b"sip:b@example.com") == []


def test_stale_nonce_is_answered_with_the_new_one() -> None:
    client = DigestClient(b"bob", b"pw", FixedRandom())
    asked = request()
    asked.fields += client.answer(asked, challenged(b'Digest realm="r", nonce="1"'))
    assert answer(client, asked, challenged(b'Digest realm="r", nonce="2", stale=true'))["nonce"] == "2"


@pytest.mark.parametrize(
    "challenge",
    [
        b'Basic realm="r"',
        b'Digest realm="r", nonce="n", algorithm=AKAv1-MD5',
        b'Digest realm="r", nonce="n", qop="auth-conf"',
        b'Digest realm="r"',
        b'Digest realm="r", nonce="never closed',
        b"Digest",
        b"",
        b",,,",
        b"\x00\xff",
        b'realm="r", nonce="n"',
    ],
)
def test_what_cannot_be_answered_gives_nothing(challenge: bytes) -> None:
    assert DigestClient(b"bob", b"pw", FixedRandom()).answer(request(), challenged(challenge)) == []


def test_other_responses_give_nothing() -> None:
    client = DigestClient(b"bob", b"pw", FixedRandom())
    assert client.answer(request(), challenged(b'Digest realm="r", nonce="n"', status=403)) == []


def test_quotes_in_a_name_are_escaped_in_the_header_only() -> None:
    client = DigestClient(b'b"o\\b', b"pw", FixedRandom())
    ((_, line),) = client.answer(request(), challenged(b'Digest realm="r", nonce="n"'))
    assert b'username="b\\"o\\\\b"' in line
    key = h('b"o\\b:r:pw')
    expected = h(f"{key}:n:{h('INVITE:sip:b@example.com')}")
    assert f'response="{expected}"'.encode() in line


def test_hostile_challenge_takes_linear_time() -> None:
    big = [b"Digest " + b'a="\\\\' * 20000, b"a " * 40000, b"Digest a=" + b" " * 60000 + b"x,", b"=" * 60000]
    for value in big:
        assert parse_challenges([value]) == []
