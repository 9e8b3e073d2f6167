"""What must never reach the disk, and what redaction must leave alone."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.secret_rules import MARKERS, SECRET_WORDS, names_secret

FINGERPRINT = r"redacted-[0-9a-f]{12}"
API_KEY = "0f8b4a6e-5c0a/4000-8000-livepeerkey0"
REDACTOR = Redactor(b"test key", [API_KEY])
SCENARIOS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "fixtures/livepeer/tasks_by_scenario.json").read_text()
)


def generic(text: str) -> str:
    """Every fingerprint as `#`."""
    return re.sub(FINGERPRINT, "#", text)


# Text, and what is left of it with each fingerprint as `#`.
URLS = [
    ("https://user:pa55@h.example/in/w.mp4", "https://#@h.example/in/w.mp4"),
    ("https://token@h.example:8443/in", "https://#@h.example:8443/in"),
    ("https://h.example/p?X-Amz-Algorithm=A&X-Amz-Signature=dead", "https://h.example/p?X-Amz-Algorithm=#&X-Amz-Signature=#"),
    ("https://h.example/p?a=b#t=10,20", "https://h.example/p?a=##t=#"),
    ("https://h.example/p?bare", "https://h.example/p?#"),
    ("https://h.example/p?c2VjcmV0==", "https://h.example/p?#"),
    ("https://h.example/p?9f8e7d-6c!=x", "https://h.example/p?#=#"),
    ("w3s://PROOF+x/y=@/", "w3s://#@/"),
    ("s3://AKIA:SEC/RET@host/b", "s3://#@host/b"),
    ("s3://AKIA:12/RET@host/b", "s3://#@host/b"),
    ("s3+https://key:se/cr/et@host/bucket", "s3+https://#@host/bucket"),
    ("gs://user:pass@bucket", "gs://#@bucket"),
    ("rtmp://u:p@h/live/app", "rtmp://#@h/live/#"),
    ("https://u:p?w@host/", "https://#@host/"),
    ("https://u:p#w@host/", "https://#@host/"),
    ("https://us@er:p/w@host/", "https://#@host/"),
    ("https://proxy/https://user:pass@h/x", "https://proxy/https://#@h/x"),
    ("https://proxy/https%3A%2F%2Fuser%3Apass%40h%2Fx%3Ftoken%3Dabc", "https://proxy/https%3A%2F%2F#%40h%2Fx%3Ftoken%3D#"),
    ("https%253A%252F%252Fuser%253Apass%2540h%252Fx", "https%253A%252F%252F#%2540h%252Fx"),
    ("https:\\/\\/user:pass@h\\/x?y=z", "https:\\/\\/#@h\\/x?y=#"),
    ('Get "https://h/p?sig=abc": dial tcp', 'Get "https://h/p?sig=#": dial tcp'),
    ("failed (https://h/p?sig=abc).", "failed (https://h/p?sig=#)."),
    ("one https://a:b@h/ two https://c:d@h/", "one https://#@h/ two https://#@h/"),
    ("(https://u:p)w@h/x)", "(https://#@h/x)"),
    ("https:/user:pass@host", "#@host"),
    ("http://h\\@u:p@x/", "http://#@x/"),
    ("s3://AKIA:SEC RET@host/b c", "s3://#@host/b c"),
    ("redis://:pass@cache:6379/0", "redis://#@cache:6379/0"),
    ("user:pass@host", "#@host"),
    ("connect to db=user:p/w@host:5432 failed", "connect to db=#@host:5432 failed"),
    ("data:text/plain;base64,c2VjcmV0", "data:text/plain;base64,#"),
]  # fmt: skip

SHAPED = [
    ("Bearer abc.def-1", "Bearer #"),
    ("authorization: Bearer abc def", "authorization: #"),
    ("Cookie: a=b; c=d", "Cookie: #"),
    ('it said {"apiKey": {"value": "abc"}, "b": 1}', 'it said {"apiKey": #}'),
    ('it said {"X-Api-Key": ["abc"]}', 'it said {"X-Api-Key": #"]}'),
    ("map[Authorization:[Custom abc] Accept:[x]]", "map[Authorization:#]]"),
    ("rtmps://rtmp.livepeer.com/live/abcd-efgh", "rtmps://rtmp.livepeer.com/live/#"),
    ("Basic dXNlcjpwYXNz", "Basic #"),
    ("jwt eyJhbGciOiJIUzI1NiJ9.PINATA.JWTSECRET!", "jwt #!"),
    ("id AKIAIOSFODNN7EXAMPLE, ASIAIOSFODNN7EXAMPLE", "id #, #"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- end", "# end"),
    ("-----BEGIN PRIVATE KEY-----\nMIIE cut", "#"),
    ("ghp_" + "a1B2" * 9, "#"),
    ("github_pat_" + "a1B2" * 9, "#"),
    ("xoxb-1234-5678-abcdef", "#"),
    ("https://hooks.slack.com/services/T0/B0/XyZ", "https://hooks.slack.com/services/#"),
    ("sk_live_a1B2c3D4e5", "#"),
    ("AIza" + "a1B2c" * 7, "#"),
    ("glpat-a1B2c3D4e5f6g7H8i9j0", "#"),
    ("npm_" + "a1B2c3" * 6, "#"),
    ("sk-proj-a1B2c3D4e5f6g7H8i9j0", "#"),
    ("SK" + "0a1b2c3d" * 4, "#"),
    ("password=abc&x=1", "password=#&x=1"),
    ("token: zzz, next", "token: #, next"),
    ('secret="a b c" end', 'secret="#" end'),
    ("my api_key => qqq", "my api_key => #"),
    ('cut {"apiSecret": "a \\" b", "x"', 'cut {"apiSecret": "#", "x"'),
    ("AccountKey=abc==;EndpointSuffix=core", "AccountKey=#"),
    ("sv=1&sig=abc%2F", "sv=1&sig=#"),
    ("<AWSAccessKeyId>LLM</AWSAccessKeyId>", "<AWSAccessKeyId>#</AWSAccessKeyId>"),
    ("no token 1234-abc found", "no token # found"),
    (f"key {API_KEY} and {API_KEY.replace('/', '%2f')} and x{API_KEY}x", "key # and # and x#x"),
]  # fmt: skip

INNOCENT = [
    "s3+https://***:***@home/v.mp4",
    "https://host/@user/video.mp4",
    "https://host:8080/@user/video.mp4",
    "https://medium.com/@user",
    "http://[::1]:8080/a@b",
    "https://a.example/What%3F.mp4",
    "https://h.example/p?token=***&x=&y=",
    "ipfs://bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
    "0x4739a9745adc22b13309503e00a89633F3eb6e28 QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPV6o",
    "task-4eb4a462-773c-4515-aa1a-eb5dc5533f0b",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "write to me@example.com or git@github.com:org/repo",
    "missing bearer token in request",
    "Basic Training Video",
    "ba\u017fic \u212aelvin basic caf\u00e9s\u212a",
    "a new secret, a token and the key",
    "50% off? #1 @home",
]


@pytest.mark.parametrize(("text", "left"), URLS + SHAPED)
def test_secrets_in_text(text: str, left: str) -> None:
    redacted = REDACTOR.scrub(text)
    assert generic(redacted) == left
    assert REDACTOR.scrub(redacted) == redacted
    for spelled in (json.dumps(text), json.dumps(text).replace("/", "\\/").replace("@", "\\u0040")):
        payload = f'{{"a":{{"{{}}":[1.0,{spelled} ]}},"n":1e400}}'.encode()
        result = REDACTOR.redact(payload)
        assert json.loads(result)["a"]["{}"][1] == redacted
        assert result.endswith(b' ]},"n":1e400}')
        key = REDACTOR.redact(f"{{{spelled}:7}}".encode())
        assert list(json.loads(key)) == [redacted]


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert REDACTOR.scrub(text) == text
    payload = json.dumps({"name": text, "text": ["\ud800é", text], text: None}).encode()
    assert REDACTOR.redact(payload) is payload


@pytest.mark.parametrize(
    "name",
    ["secret", "clientSecret", "PASSWORD", "db_passwd", "access-token", "X-Api-Key", "api key", "secretAccessKey",
     "jwt",
     "auth", "pwd", "pass", "sig", "encryptedKey", "encryption", "Authorization", "credentials", "Set-Cookie",
     "streamKey",
     "tokenId", "headers", "requestHeaders", "pinata", "webhookContext", "X-Amz-Signature", "private_key",
     "\\u0073ecret"],
)  # fmt: skip
def test_every_leaf_below_a_secret_name_goes(name: str) -> None:
    payload = b'{"%b": {"a":["v1", 42,NaN, {"b" : "v2"}],"c":[[],null,true,false,"","***"]} , "after":[{"d":"v1"}]}'
    result = REDACTOR.redact(payload % name.encode()).decode()
    kept = '{"%s": {"a":["#", "#","#", {"b" : "#"}],"c":[[],null,true,false,"","***"]} , "after":[{"d":"v1"}]}'
    assert generic(result) == kept % name
    assert REDACTOR.redact(result.encode()) == result.encode()
    scalar = REDACTOR.redact(b'[{"%b":"v1","next":"v1"}]' % name.encode()).decode()
    assert generic(scalar) == f'[{{"{name}":"#","next":"v1"}}]'


@pytest.mark.parametrize(
    "name",
    ["createdByTokenName", "signature", "sessionId", "playbackId", "requesterId", "key", "name", "author", "hash",
     "uploadedObjectKey", "recordedSessionId", "playbackRecordingId"],
)  # fmt: skip
def test_names_that_only_sound_like_secrets(name: str) -> None:
    payload = json.dumps({name: "value 1"}).encode()
    assert REDACTOR.redact(payload) is payload


def test_every_secret_word_has_a_marker() -> None:
    for word in SECRET_WORDS:
        assert any(marker in word.replace(" ", "_").encode() for marker in MARKERS), word
        assert names_secret(word.upper())


def test_the_value_of_a_name_goes() -> None:
    payload = b'[{"name":"password" , "value": "v1","x":1},{"key":"apiKey","value":["v1",7]},{"name":"a","value":"v2"}]'
    left = '[{"name":"password" , "value": "#","x":1},{"key":"apiKey","value":["#","#"]},{"name":"a","value":"v2"}]'
    assert generic(REDACTOR.redact(payload).decode()) == left
    assert REDACTOR.redact_all([payload]) == [REDACTOR.redact(payload)]


def test_json_inside_a_string_is_redacted_as_json() -> None:
    inner = {"headers": {"x": "v1"}, "list": [json.dumps({"pinata": ["v2"]})], "size": 1}
    result = json.loads(json.loads(REDACTOR.redact(json.dumps({"body": json.dumps(inner)}).encode()))["body"])
    assert generic(json.dumps(result)) == generic(
        json.dumps({"headers": {"x": "#"}, "list": [json.dumps({"pinata": ["#"]})], "size": 1})
    )


def test_fingerprints_join_equal_secrets_and_need_the_key() -> None:
    text = 'password="abc/d" https://h/?x=abc%2Fd https://h/?y=other'
    first, second, other = re.findall(FINGERPRINT, REDACTOR.scrub(text))
    assert first == second != other
    assert first == REDACTOR.fingerprint("abc/d") != Redactor(b"another key").fingerprint("abc/d")


def test_rules_that_meet_in_one_text_settle_at_once() -> None:
    once = REDACTOR.scrub("://%3F>/password=AKIAIOSFODNN7EXAMPLE@AKIAIOSFODNN7EXAMPLEkey?httpspassword=-@")
    assert REDACTOR.scrub(once) == once


def test_a_short_literal_does_not_eat_fingerprints() -> None:
    redactor = Redactor(b"k", ["a", "red", ""])
    once = redactor.scrub("a red bat")
    assert generic(once) == "# # b#t"
    assert redactor.scrub(once) == once


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_scenario_of_the_real_server_leaks(scenario: str) -> None:
    task = SCENARIOS[scenario]
    result = REDACTOR.redact(json.dumps(task).encode())
    secrets = r"pa55|AKIAEXAMPLE|deadbeef|0123|LLMMB|export-secret|PINATA|pinata-api|EaJlcm9|token=abc"
    assert not re.search(secrets, generic(result.decode()))
    assert (result != json.dumps(task).encode()) == bool(re.search(secrets, json.dumps(task)))
    assert REDACTOR.redact(result) == result


def test_a_page_is_redacted_as_its_tasks_are() -> None:
    page = [json.dumps(task).encode() for task in SCENARIOS.values()] + [
        b'{"a":"\xff?"}',
        b'{"sid":"SK%b"}' % (b"0a" * 16),
    ]
    assert REDACTOR.redact_all(page) == [REDACTOR.redact(task) for task in page]
    assert REDACTOR.redact_all([]) == []
    assert REDACTOR.redact_all([page[0]])[0] is page[0]


@pytest.mark.parametrize(
    "body", [b'{"password":"v1', b'{"password":"v1\\', b'{"a":"\xff https://u:v1@h"}', b'{"password":}["k"]']
)
def test_malformed_payloads_leak_as_little(body: bytes) -> None:
    result = REDACTOR.redact(body)
    assert b"v1" not in result
    assert REDACTOR.redact(result) == result


PLANTS = [
    "https://u:{}@h/p", "https://{}@h/", "s3://AK:{}/x@h/b", "w3s://{}@/", "https://h/p?x={}", "https://h/p?{}",
    "https://h/#{}",
    "https://p/https://a:{}@h", "https%3A%2F%2Fa%3A{}%40h", "see https://h/p?a=b&c={} now", "a:{}@host", "Bearer {}",
    "password={}", "token: {}", "secret='{}'", "api-key={}", "Authorization: Digest {}", "Cookie: a={}; b={}",
    "AccountKey={};x=y",
    "eyJhbGciOiJI.{}.sig", "ghp_{}", "xoxb-{}", "sk_live_{}", "glpat-{}", "npm_{}", "sk-{}",
    "https://hooks.slack.com/services/{}",
    "-----BEGIN PRIVATE KEY-----{}-----END PRIVATE KEY-----", "data:x/y;base64,{}",
    "no token {} found",
    "{}",
]  # fmt: skip
PLANTED = "Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7"


class Slow(Redactor):
    """Only the general rules."""

    def _redact_plain_url(self, text: str) -> str | None:
        return None


LITERALS = ["ab-key", "b/key"]
FAST, SLOW = Redactor(b"k", LITERALS), Slow(b"k", LITERALS)
SCHEMES = [
    "https://",
    "http://",
    "s3://",
    "s3+https://",
    "gs://",
    "w3s://",
    "rtmp://",
    "ipfs://",
    "token://",
    "data://",
]
url_words = st.lists(
    st.sampled_from(
        ["user", "h.example", "token", "sig", "X-Amz-Signature", "cookie", "basic", "bearer", "redacted-0123456789ab",
         "***", "AKIAIOSFODNN7EXAMPLE", "eyJhbGciOiJIUzI1NiJ9.x", "sk-proj-a1B2c3D4e5f6g7H8i9j0", "SK" + "0a" * 16,
         "hooks.slack.com/services", "-----BEGINPRIVATE-----", "ab-key", "%61b-key", "ab%2Dkey", "%4b%2Fkey",
         "8080", "%2F", "%20", "%40", "%3A%2F%2F", "%3D", "%26", "%3F", "%25", "%", "://", *"@/.-_+~:=&?#"]
    )
    | st.text("abAZ09-_.~*", max_size=6),
    max_size=3,
).map("".join)  # fmt: skip
names = st.sampled_from(["x", "X-Amz-Signature", "token", "a.b", "y_1", ""]) | url_words
urls = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(SCHEMES),
    st.sampled_from(["", "", "***:***@", "user:pass@"]) | url_words.map("{}@".format),
    st.sampled_from(["h.example", "token.example", ""]) | url_words,
    st.sampled_from(["", "/in/w.mp4", "/a%20b.mp4"]) | url_words.map("/{}".format),
    st.just("") | st.lists(st.builds("{}={}".format, names, url_words), max_size=3).map("&".join).map("?{}".format),
)


@settings(max_examples=500)
@given(urls)
def test_plain_urls_are_redacted_as_all_text_is(url: str) -> None:
    assert FAST.scrub(url) == SLOW.scrub(url)


@pytest.mark.parametrize(
    "url",
    ["https://h.example/p?X-Amz-Date=1&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2Fus-east-1&X-Amz-Signature=dead",
     "https://user:pass@h.example/in/my%20video.mp4", "s3+https://***:***@h.example/out", "w3s://PROOF+x/y=@/",
     "ipfs://bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi", "gs://user:pass@bucket/out"],
)  # fmt: skip
def test_the_usual_urls_are_plain(url: str) -> None:
    assert FAST._redact_plain_url(url) == SLOW.scrub(url)


FRAGMENTS = [
    b'"', b'\\"', b"\\\\", b"\\", b"{", b"}", b"[", b"]", b":", b",", b'"password":', b'"a":', b'"headers":{',
    b'"https://u:p@h/?x=y"', b"@", b"?", b"\1\1", b"\0", b"\\u0040", b"\\\\u0040", b"12", b"null", b" ", b"token=abc",
    b"\xff", b'"signature"', b"a:b@c",
]  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(b"".join), max_size=4))
def test_a_page_of_anything_is_redacted_as_its_parts_are(page: list[bytes]) -> None:
    assert REDACTOR.redact_all(page) == [REDACTOR.redact(part) for part in page]


words = st.text(st.sampled_from('abcxyz ABé\ud800\U0001f600\n"\\/.,-_0123'), max_size=8)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def shape(value: Any) -> Any:
    """What redaction may not change: nesting, lengths, how many keys."""
    if isinstance(value, dict):
        return [shape(inner) for inner in value.values()]
    return [shape(inner) for inner in value] if isinstance(value, list) else None


@given(trees, st.sampled_from([None, 2]), st.booleans())
def test_json_without_secrets_is_the_same_object(tree: Any, indent: int | None, ascii_only: bool) -> None:
    payload = json.dumps(tree, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert REDACTOR.redact(payload) is payload


@settings(max_examples=300)
@given(trees, st.sampled_from(PLANTS), words, words, st.sampled_from(["value", "key", "secret name"]), st.booleans())
def test_planted_secrets_never_leak(
    tree: Any, plant: str, before: str, after: str, where: str, ascii_only: bool
) -> None:
    assume(plant != "{}" or where == "secret name")
    text = f"{before} {plant.replace('{}', PLANTED)} {after}"
    planted = {"value": {"a": [tree, text]}, "key": {text: tree}, "secret name": {"x-secret": [tree, text]}}[where]
    payload = json.dumps([tree, planted, tree], ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    result = REDACTOR.redact(payload)
    assert PLANTED.encode() not in result
    assert shape(json.loads(result.decode("utf-8", "surrogatepass"))) == shape(
        json.loads(payload.decode("utf-8", "surrogatepass"))
    )
    assert REDACTOR.redact(result) == result


@settings(max_examples=300)
@given(st.text(st.sampled_from("ab:/@?#&=%34025\\u\"' .*{}[]<>tokens3-_"), max_size=60), st.binary(max_size=40))
def test_any_text_is_redacted_once_and_for_all(text: str, noise: bytes) -> None:
    once = REDACTOR.scrub(text)
    assert REDACTOR.scrub(once) == once
    payload = b'{"password":"' + noise
    assert REDACTOR.redact(REDACTOR.redact(payload)) == REDACTOR.redact(payload)


@pytest.mark.parametrize(
    "unit",
    ["?", "@", "a://b:x/", "a://b:x/@", "a:b@", "http%3A%2F%2Fa%3Fb", "%25", "\\", "eyJ", "sk-",
     "-----BEGIN PRIVATE KEY-----", "token ", "secret_", "(https://a?b)", "{", "https://a%20", "w3s://a=", "a=&",
     '{"a":', '"', 'password="', "Bearer ", "data:", "hooks.slack.com/"],
)  # fmt: skip
def test_time_grows_with_length_alone(unit: str) -> None:
    def seconds(length: int) -> float:
        payload = json.dumps({"x": unit * (length // len(unit)), "password": "v1"}).encode()
        begin = time.process_time()
        assert b"v1" not in REDACTOR.redact(payload) + REDACTOR.redact_all([payload])[0]
        return time.process_time() - begin

    assert seconds(160_000) < 40 * seconds(10_000) + 0.2  # 16 times the text; a square would be 256 times
