"""Named bombs: tiles that an attacker made who knows the format, has the key file and may write the catalog's row.

Each bomb is a whole file. Its name is computed as the format says, so the digest of the header is right; where the harm
sits behind an array's digest, that is right too; and where it sits in what is encrypted, that is encrypted as a writer
would, under a key that the reader has. Only the decoder's own checks stand between it and the process. The encryption
is written down a second time here, from the format's description and not from its code.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"MEMODB\x02\n"
OLDER = b"MEMODB\x01\n"
KEY = bytes(range(100, 132))
PIECE = 1 << 26
TAG = 16
LIMIT = 32 << 20
"""Bytes of arrays that the tests let a tile claim."""
HEADER_COST = 8 << 20
"""What decoding a header may cost, as memodb/storage/tiles.py documents it."""
FACTS: dict[str, Any] = {"geometry": {"rows": [8, 8], "provenance_rows": 8, "ordinal": 0}, "tokens": 7}


@dataclass(frozen=True)
class Bomb:
    """A hostile file: what it is called, what it tries, its bytes, and how long it is (a sparse tail costs nothing)."""

    name: str
    tries: str
    build: Callable[[], bytes]
    sparse: int = 0

    @property
    def tile(self) -> str:
        """The name under which a catalog's row would have to name the file."""
        data = self.build()
        (length,) = struct.unpack_from("<I", data, len(MAGIC)) if len(data) >= 12 else (0,)
        return hashlib.sha256(data[12 : 12 + length]).hexdigest()


def wrapped(header: bytes, body: bytes = b"", *, claimed: int | None = None) -> bytes:
    """A tile of this header and body."""
    return MAGIC + struct.pack("<I", len(header) if claimed is None else claimed) + header + body


def frame(data: bytes, **settings: Any) -> bytes:
    return zstandard.ZstdCompressor(level=1, **settings).compress(data)


def binding(facts: Any, name: Any, code: Any, length: Any, packed: Any) -> bytes:
    """What the pieces of an array are bound to."""
    return MAGIC + bytes(msgpack.packb([hashlib.sha256(msgpack.packb(facts)).digest(), name, code, length, packed]))


def encrypted(index: int, data: bytes, about: bytes, key: bytes = KEY) -> bytes:
    """The pieces of one array's frame, the first of them under the number index << 32 | 1."""
    cipher = AESGCM(key)
    return b"".join(
        cipher.encrypt((index << 32 | number).to_bytes(12, "big"), data[at : at + PIECE], about)
        for number, at in enumerate(range(0, len(data), PIECE), 1)
    )


def entry(name: Any, code: Any, length: Any, packed: bytes, size: Any = None, digest: Any = None) -> list[Any]:
    """What a header says of one array; each claim may be another than the truth."""
    sealed = hashlib.sha256(packed).digest() if digest is None else digest
    return [name, code, length, len(packed) if size is None else size, sealed]


@dataclass(frozen=True)
class Array:
    """An array to put into a tile: its frame before it is encrypted, and what is claimed of it."""

    name: Any
    code: Any
    length: Any
    frame: bytes
    size: Any = None
    digest: Any = None
    bound: dict[str, Any] | None = None
    """Claims that it is encrypted for, where they are others than the header's: ``facts``, ``name``, ``code``, ..."""
    key: bytes = KEY
    index: int | None = None
    then: Callable[[bytes], bytes] = bytes
    """What becomes of the encrypted bytes, before their size and digest are stated."""

    def packed(self, facts: Any, index: int) -> tuple[list[Any], bytes]:
        """Its entry in the header, and its bytes."""
        length = len(self.frame) + TAG * -(-len(self.frame) // PIECE)
        claims = {"facts": facts, "name": self.name, "code": self.code, "length": self.length, "packed": length}
        about = binding(**{**claims, **(self.bound or {})})
        data = self.then(encrypted(index if self.index is None else self.index, self.frame, about, self.key))
        return entry(self.name, self.code, self.length, data, self.size, self.digest), data


def tile(*arrays: Array, facts: Any = None) -> bytes:
    """A tile of these arrays, its header packed as it would be written."""
    facts = FACTS if facts is None else facts
    made = [array.packed(facts, index) for index, array in enumerate(arrays)]
    stated = {"facts": facts, "arrays": [stated for stated, _ in made]}
    return wrapped(msgpack.packb(stated), b"".join(data for _, data in made))


def one(code: Any = "u1", length: Any = 4, packed: bytes | None = None, name: Any = "cells", **claims: Any) -> bytes:
    """A tile of one array."""
    return tile(Array(name, code, length, frame(bytes(4)) if packed is None else packed, **claims))


def plain() -> bytes:
    """A tile whose frame is not encrypted at all, and is what the header says."""
    data = frame(bytes(4)) + bytes(TAG)
    return wrapped(msgpack.packb({"facts": FACTS, "arrays": [entry("cells", "u1", 4, data)]}), data)


def exchanged() -> bytes:
    """Two arrays of one shape, each where the other belongs, with digests that are right."""
    data = [Array("a", "u1", 4, frame(text)).packed(FACTS, index)[1] for index, text in enumerate((b"aaaa", b"bbbb"))]
    stated = [entry(name, "u1", 4, piece) for name, piece in zip("ab", reversed(data), strict=True)]
    return wrapped(msgpack.packb({"facts": FACTS, "arrays": stated}), b"".join(reversed(data)))


def with_facts(facts: Any) -> bytes:
    return one_with(facts, facts)


def one_with(facts: Any, encrypted_for: Any) -> bytes:
    return tile(Array("cells", "u1", 4, frame(bytes(4)), bound={"facts": encrypted_for}), facts=facts)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def overlapping() -> bytes:
    """Two entries; the second begins where a negative size of the first puts it: in the first again."""
    stated, data = Array("a", "u1", 4, frame(bytes(4))).packed(FACTS, 0)
    header = {"facts": FACTS, "arrays": [stated, entry("b", "u1", 4, data, -len(data))]}
    return wrapped(msgpack.packb(header), data)


def shared_frame() -> bytes:
    """Two entries for the bytes of one frame, in a file that is as long as one."""
    stated, data = Array("a", "u1", 4, frame(bytes(4))).packed(FACTS, 0)
    header = {"facts": FACTS, "arrays": [stated, entry("b", "u1", 4, data)]}
    return wrapped(msgpack.packb(header), data)


def lying_frame(claimed: int) -> bytes:
    """A zstd frame of three bytes whose header claims a content size of its own (single segment, 8 bytes of size)."""
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", claimed) + b"\x01\x00\x00"


def wide_window() -> bytes:
    """A frame that asks for a window of 2 GiB to decode one empty block; it says a content size of 4."""
    return b"\x28\xb5\x2f\xfd\x80" + bytes([(31 - 10) << 3]) + struct.pack("<I", 4) + b"\x21\x00\x00" + b"abcd"


def with_dictionary() -> bytes:
    """A frame that needs dictionary 1, which nobody has."""
    return b"\x28\xb5\x2f\xfd\x21\x01\x04\x21\x00\x00abcd"


def doubled_key() -> bytes:
    """A header that states its facts twice: a decoder keeps the last, a reader with eyes sees the first."""
    facts = msgpack.packb("facts") + msgpack.packb(FACTS)
    return wrapped(b"\x83" + facts + facts + msgpack.packb("arrays") + b"\x90")


def respelt() -> bytes:
    """The same header with a small number in nine bytes: a second name for one tile."""
    header = msgpack.packb({"facts": {"tokens": 7}, "arrays": []})
    return wrapped(header.replace(b"\xa6tokens\x07", b"\xa6tokens\xcf" + bytes(7) + b"\x07"))


def maps(number: int) -> bytes:
    """So many empty maps in one list, as the facts."""
    return b"\x82\xa5facts\xdd" + struct.pack(">I", number) + b"\x80" * number + b"\xa6arrays\x90"


def ten_million_maps() -> bytes:
    """160 lists of 250 lists of 250 empty maps: no list is long, nothing is deep, and the whole takes 711 MiB."""
    row = b"\xdc\x00\xfa" + b"\x80" * 250
    rows = b"\xdc\x00\xfa" + row * 250
    return b"\x82\xa5facts\x81\xa1a\xdc\x00\xa0" + rows * 160 + b"\xa6arrays\x90"


def honest(size: int) -> bytes:
    """A frame of zeros that says what it is: 4 bytes for 128 KiB of them."""
    blocks = [min(1 << 17, size - at) for at in range(0, size, 1 << 17)]
    heads = [length << 3 | 2 | (at == len(blocks) - 1) for at, length in enumerate(blocks)]
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"".join(h.to_bytes(3, "little") + b"\0" for h in heads)


def tagged(data: bytes) -> bytes:
    return AESGCM(KEY).encrypt((1).to_bytes(12, "big"), b"", binding(FACTS, "cells", "u1", 4, TAG))


def sparse() -> bytes:
    return wrapped(msgpack.packb({"facts": FACTS, "arrays": [entry("a", "u1", 1 << 20, b"", 1 << 40)]}))


BOMBS = (
    Bomb("deep lists", "60,000 lists, each in the next, to exhaust the stack", lambda: wrapped(b"\x91" * 60_000)),
    Bomb("deep maps", "20,000 maps, each in the next", lambda: wrapped(b"\x81\xa1a" * 20_000 + b"\xc0")),
    Bomb(
        "deep facts",
        "900 levels: unpacked without complaint, compared with a RecursionError",
        lambda: with_facts({"geometry": nested(900)}),
    ),
    Bomb(
        "list of 4 Gi", "a list that claims 4,294,967,295 items and has none", lambda: wrapped(b"\xdd\xff\xff\xff\xff")
    ),
    Bomb("map of 4 Gi", "a map that claims 4,294,967,295 members", lambda: wrapped(b"\xdf\xff\xff\xff\xff")),
    Bomb("text of 4 Gi", "a text that claims 4 GiB", lambda: wrapped(b"\xdb\xff\xff\xff\xff" + b"a" * 1000)),
    Bomb("bytes of 4 Gi", "bytes that claim 4 GiB", lambda: wrapped(b"\xc6\xff\xff\xff\xff" + b"a" * 1000)),
    Bomb("extension of 4 Gi", "an extension type that claims 4 GiB", lambda: wrapped(b"\xc9\xff\xff\xff\xff\x01")),
    Bomb(
        "ten million maps",
        "10 MB of empty maps: 711 MiB of memory where they are unpacked",
        lambda: wrapped(ten_million_maps()),
    ),
    Bomb(
        "a header full of maps",
        "as many empty maps as the header's limit lets in",
        lambda: wrapped(maps((1 << 16) - 32)),
    ),
    Bomb("lists of maps", "the same, in lists each of which is short enough", lambda: with_facts([[{}] * 250] * 250)),
    Bomb(
        "a wide map",
        "a map of 5,000 members, of which none is asked for",
        lambda: with_facts({str(number): 0 for number in range(5000)}),
    ),
    Bomb("number as key", "a map whose key is a number", lambda: wrapped(b"\x82\x01\x02\xa6arrays\x90")),
    Bomb("bytes as key", "a map whose key is the bytes of a text: equal to none", lambda: with_facts({b"tokens": 7})),
    Bomb("list as key", "a map whose key cannot be hashed", lambda: wrapped(b"\x81\x90\x01")),
    Bomb("facts twice", "a key that comes twice: two readers, two truths", doubled_key),
    Bomb("another spelling", "a number spelt in nine bytes: another digest, and so another name, of the same", respelt),
    Bomb("size NaN", "an array of NaN items: no comparison refuses it", lambda: one(length=math.nan)),
    Bomb("size infinite", "an array of infinitely many items", lambda: one(length=math.inf)),
    Bomb("size as float", "an array of 4.0 items", lambda: one(length=4.0)),
    Bomb("size true", "an array of True items: an int to Python", lambda: one(length=True, packed=frame(b"a"))),
    Bomb("size negative", "an array of -1 items: no limit at all to a decompressor", lambda: one(length=-1)),
    Bomb("size of 2**63", "an array whose bytes overflow a signed size", lambda: one("u8", 1 << 63)),
    Bomb(
        "size of 2**61",
        "an array of 8-byte items whose bytes are 2**64: 0 where sizes wrap",
        lambda: one("u8", 1 << 61, frame(b"")),
    ),
    Bomb("frames overlap", "a negative frame size, so that the next frame begins in this one", overlapping),
    Bomb("frame shared", "two arrays of one frame's bytes: a file can claim more than it has", shared_frame),
    Bomb("objects", "an array of Python objects, which are pickles", lambda: one("O8")),
    Bomb("type as list", "a type that is a list: unhashable where it is looked up", lambda: one(["u1"])),
    Bomb("type of another width", "one-byte counts declared as eight-byte ones", lambda: one("u8", 4)),
    Bomb(
        "name twice",
        "two arrays of one name: which is the memory?",
        lambda: tile(*(Array("cells", "u1", 4, frame(data)) for data in (b"aaaa", b"bbbb"))),
    ),
    Bomb("name of a list", "a name that is a list", lambda: one(name=["cells"])),
    Bomb("name without end", "a name of 60,000 characters, for a message or a log", lambda: one(name="x" * 60_000)),
    Bomb(
        "no UTF-8",
        "a name that is no text",
        lambda: wrapped(b"\x82\xa5facts\x80\xa6arrays\x91\x95\xa2\xff\xfe\xa2u1\x04\x04\xc4\x00"),
    ),
    Bomb(
        "timestamp",
        "a time of the year 9 billion, as msgpack's own extension",
        lambda: wrapped(b"\x82\xa5facts\x81\xa1t\xc7\x0c\xff" + b"\x7f" * 12 + b"\xa6arrays\x90"),
    ),
    Bomb(
        "extension",
        "facts of an extension type, whose code chooses a decoder",
        lambda: with_facts({"t": msgpack.ExtType(42, b"x" * 100)}),
    ),
    Bomb("bytes in facts", "facts that JSON has no word for", lambda: with_facts({"tokens": b"7"})),
    Bomb("NaN in facts", "facts that differ from themselves", lambda: with_facts({"tokens": math.nan})),
    Bomb("a list as header", "valid msgpack of another shape", lambda: wrapped(msgpack.packb([FACTS, []]))),
    Bomb("nothing as header", "msgpack's nil", lambda: wrapped(b"\xc0")),
    Bomb("no header", "a header of no bytes", lambda: wrapped(b"")),
    Bomb("facts as list", "facts that are no map", lambda: with_facts([1])),
    Bomb("arrays as map", "arrays that are no list", lambda: wrapped(msgpack.packb({"facts": {}, "arrays": {}}))),
    Bomb("no arrays", "a header without arrays", lambda: wrapped(msgpack.packb({"facts": FACTS}))),
    Bomb(
        "one key more",
        "a key that nobody asked for",
        lambda: wrapped(msgpack.packb({"facts": FACTS, "arrays": [], "hook": "os.system"})),
    ),
    Bomb(
        "entry of four",
        "an entry without its digest",
        lambda: wrapped(msgpack.packb({"facts": FACTS, "arrays": [["cells", "u1", 0, 0]]})),
    ),
    Bomb(
        "entry as text",
        "an entry that is a text of five letters",
        lambda: wrapped(msgpack.packb({"facts": FACTS, "arrays": ["cells"]})),
    ),
    Bomb("digest empty", "an entry with a digest of no bytes", lambda: one(digest=b"")),
    Bomb("digest as text", "an entry whose digest is hexadecimal", lambda: one(digest="00" * 32)),
    Bomb(
        "thousand arrays",
        "more arrays than any memory has matrices",
        lambda: tile(*(Array(str(number), "u1", 0, b"") for number in range(1000))),
    ),
    Bomb(
        "trailing header",
        "a second object behind the header's",
        lambda: wrapped(msgpack.packb({"facts": FACTS, "arrays": []}) + b"\xc0"),
    ),
    Bomb("header of 4 GiB", "a length that no file has", lambda: wrapped(b"\xc0", claimed=0xFFFFFFFF)),
    Bomb(
        "frame of 8 GiB",
        "a frame of 16 bytes that claims 8 GiB, and a header that agrees",
        lambda: one("u8", 1 << 30, lying_frame(1 << 33)),
    ),
    Bomb(
        "frame of 127 KiB",
        "a frame that claims what its blocks do not hold, below every limit",
        lambda: one(length=130_000, packed=lying_frame(130_000)),
    ),
    Bomb(
        "frame without size",
        "a frame that does not say how much it decodes to",
        lambda: one(packed=frame(bytes(4), write_content_size=False)),
    ),
    Bomb("frame too long", "a frame of 256 MiB for an array of four bytes", lambda: one(packed=honest(1 << 28))),
    Bomb("frame too short", "a frame of four bytes for an array of 1,000", lambda: one(length=1000)),
    Bomb(
        "honest gigabyte",
        "1 GiB of zeros in 32 KiB, declared as what it is",
        lambda: one(length=1 << 30, packed=honest(1 << 30)),
    ),
    Bomb(
        "many small bombs",
        "200 arrays of 1 MiB each, none of which is too large",
        lambda: tile(*(Array(str(number), "u1", 1 << 20, honest(1 << 20)) for number in range(200))),
    ),
    Bomb(
        "two frames",
        "a second frame behind the first, in the bytes of one array",
        lambda: one(packed=frame(bytes(4)) + frame(b"more")),
    ),
    Bomb(
        "frame and garbage", "bytes behind the frame that the digest covers", lambda: one(packed=frame(bytes(4)) + b"x")
    ),
    Bomb("skippable frame", "a frame that decoders pass over", lambda: one(packed=b"\x50\x2a\x4d\x18\x04\0\0\0abcd")),
    Bomb("window of 2 GiB", "a frame that asks for a window of 2 GiB", lambda: one(packed=wide_window()[:-2])),
    Bomb("dictionary", "a frame that needs a dictionary", lambda: one(packed=with_dictionary())),
    Bomb("no frame", "bytes that are no zstd", lambda: one(packed=b"\x1f\x8b\x08\x00" + bytes(20))),
    Bomb("frame cut short", "half of a frame", lambda: one(length=1000, packed=frame(bytes(range(250)) * 4)[:-9])),
    Bomb("longer than it says", "bytes behind the last frame", lambda: one() + b"\0"),
    Bomb("shorter than it says", "a last frame without its last byte", lambda: one()[:-1]),
    Bomb("sparse terabyte", "a file of a terabyte that takes no disk, to be read whole", sparse, 1 << 40),
    Bomb("frame not encrypted", "a frame as it was before there were keys, digest and all", plain),
    Bomb("of another key", "an array under the key of another tile", lambda: one(key=bytes(32))),
    Bomb("arrays exchanged", "two arrays of one shape, each in the other's place", exchanged),
    Bomb("of another place", "the first array, encrypted as the second", lambda: one(index=1)),
    Bomb("of other facts", "arrays under facts that they were not written with", lambda: one_with(FACTS, {})),
    Bomb("of another name", "an array that was written as another", lambda: one(bound={"name": "large 0"})),
    Bomb("of another type", "bytes that were written as eight-byte counts", lambda: one(bound={"code": "u8"})),
    Bomb("of another length", "an array that was longer when it was written", lambda: one(bound={"length": 5})),
    Bomb(
        "tag flipped", "a frame whose tag is another", lambda: one(then=lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    ),
    Bomb("tag cut off", "a frame without the end of its tag", lambda: one(then=lambda data: data[:-1])),
    Bomb(
        "only a tag",
        "an encrypted frame of nothing, where four bytes were promised",
        lambda: one(packed=b"", then=tagged),
    ),
    Bomb(
        "less than a tag", "nothing, in fifteen bytes", lambda: one(length=0, packed=b"", then=lambda data: bytes(15))
    ),
    Bomb(
        "a piece of only a tag",
        "a second piece that holds nothing, so that its bytes are nobody's",
        lambda: wrapped(
            msgpack.packb({"facts": FACTS, "arrays": [entry("a", "u1", 1 << 27, b"", PIECE + TAG + TAG, bytes(32))]})
        ),
        PIECE + TAG + TAG,
    ),
    Bomb("of an older memodb", "a tile of the format without keys", lambda: OLDER + one()[len(MAGIC) :]),
)
