"""Tiles made to harm whoever decodes them: each is refused with CorruptStore, within twice the documented memory."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgpack
import pytest
import zstandard

import memodb
from memodb.storage import read_tile

CHILD = """
import importlib.util, json, sys, tracemalloc
from pathlib import Path
from memodb.storage import read_tile
import memodb

spec = importlib.util.spec_from_file_location("bombs", sys.argv[1])
bombs = importlib.util.module_from_spec(spec)
sys.modules["bombs"] = bombs
spec.loader.exec_module(bombs)
folder = Path(sys.argv[2])
status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")

def most():
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))

def measured(action):
    # The resident set sees what the C libraries allocate; where its peak cannot be reset, Python's own is all there is.
    try:
        refs.write_text("5")
    except OSError:
        tracemalloc.start()
        action()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak
    before = most()
    action()
    return most() - before

for name in json.loads(sys.stdin.read()):
    said = []
    def read():
        try:
            read_tile(folder, name, bombs.KEY, limit=bombs.LIMIT)
            said.append("accepted")
        except memodb.CorruptStore as exc:
            said.append("CorruptStore")
        except BaseException as exc:
            said.append(f"{type(exc).__name__}: {exc}")
    peak = measured(read)
    print(json.dumps([name, said[0], peak]))
"""


@pytest.fixture(scope="module")
def bombs(beside: Callable[[str], ModuleType]) -> Any:
    return beside("bombs")


def test_there_are_thirty_and_each_says_what_it_tries(bombs: Any) -> None:
    assert len({bomb.name for bomb in bombs.BOMBS}) == len(bombs.BOMBS) >= 30
    assert len({bomb.tile for bomb in bombs.BOMBS}) >= 30
    assert all(bomb.tries for bomb in bombs.BOMBS)


def test_what_the_bombs_are_made_of_is_no_bomb(bombs: Any, tmp_path: Path) -> None:
    """Else they would be refused for a reason of the test's own making."""
    bomb = bombs.Bomb("honest", "", bombs.one)
    (tmp_path / bomb.tile).write_bytes(bomb.build())
    facts, arrays = read_tile(tmp_path, bomb.tile, bombs.KEY, limit=bombs.LIMIT)
    assert facts == bombs.FACTS
    assert arrays["cells"].tolist() == [0] * 4
    large = bombs.Bomb("honest and large", "", lambda: bombs.one(length=1 << 20, packed=bombs.honest(1 << 20)))
    (tmp_path / large.tile).write_bytes(large.build())
    assert not read_tile(tmp_path, large.tile, bombs.KEY, limit=1 << 20)[1]["cells"].any()


def test_every_bomb_is_refused_within_its_memory(bombs: Any, tmp_path: Path, covered: Callable[..., None]) -> None:
    import subprocess
    import sys

    tiles = {}
    for number, bomb in enumerate(bombs.BOMBS):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / bomb.tile
        path.write_bytes(bomb.build())
        if bomb.sparse:
            os.truncate(path, path.stat().st_size + bomb.sparse)
        path.replace(tmp_path / bomb.tile)
        tiles[bomb.tile] = bomb
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, bombs.__file__, str(tmp_path)],
        input=json.dumps(list(tiles)),
        env={**os.environ, "PYTHONPATH": str(Path(memodb.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(tiles)
    worst = 0
    for name, outcome, peak in said:
        bomb = tiles[name]
        assert outcome == "CorruptStore", (bomb.name, outcome)
        worst = max(worst, peak)
        # a header alone may cost what tiles.py documents; whatever is behind it, at most the caller's limit
        assert peak < 2 * (bombs.LIMIT if "frame" in bomb.name or "bomb" in bomb.name else bombs.HEADER_COST), (
            bomb.name,
            peak,
        )
    covered(bombs=len(said), largest_growth_mib=round(worst / 2**20, 1))


def test_what_the_bombs_are_encrypted_with_is_what_tiles_are(specimen: Any, bombs: Any) -> None:
    """The encryption that is written down here a second time reads what memodb wrote."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data = (specimen.path / specimen.tile()).read_bytes()
    assert data.startswith(bombs.MAGIC)
    at = 12 + int.from_bytes(data[8:12], "little")
    stated = msgpack.unpackb(data[12:at])
    for index, (name, code, length, packed, _) in enumerate(stated["arrays"]):
        about = bombs.binding(stated["facts"], name, code, length, packed)
        frame = AESGCM(specimen.tile_key()).decrypt(
            (index << 32 | 1).to_bytes(12, "big"), data[at : at + packed], about
        )
        at += packed
        assert len(zstandard.ZstdDecompressor().decompress(frame)) == length * int(code[1])
    assert at == len(data)


def test_damage_is_told_from_a_key_that_is_gone(bombs: Any, tmp_path: Path) -> None:
    """To the cipher they look alike; to whoever looks for a backup, or for who destroyed a key, they are not."""
    data = bombs.one()
    bomb = bombs.Bomb("sound", "", lambda: data)
    (tmp_path / bomb.tile).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(memodb.CorruptStore, match="is damaged"):
        read_tile(tmp_path, bomb.tile, bombs.KEY)
    (tmp_path / bomb.tile).write_bytes(data)
    with pytest.raises(memodb.CorruptStore, match="of another key"):
        read_tile(tmp_path, bomb.tile, bytes(32))
    with pytest.raises(memodb.CorruptStore, match="key was destroyed"):
        read_tile(tmp_path, bomb.tile, None)
    assert read_tile(tmp_path, bomb.tile, bombs.KEY)[0] == bombs.FACTS


def test_a_bomb_in_a_store_costs_nothing_but_time(specimen: Any, bombs: Any, tmp_path: Path) -> None:
    """The row names it and its key, the file has the right name: the documents make the memory, and the check tells."""
    path = specimen.copy(tmp_path / "s")
    chosen = [bomb for bomb in specimen.bombs if not bomb.sparse]
    for bomb in chosen[:: max(1, len(chosen) // 12)]:
        specimen.name_tile(path, bomb.tile, bombs.KEY)
        (path / "segments" / bomb.tile).write_bytes(bomb.build())
        with memodb.connect(path, read_only=True) as db:
            assert db.digest() == specimen.digest, bomb.name
            assert not db.check().ok, bomb.name
