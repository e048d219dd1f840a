"""What a disk may hold after the power went: a model of files and names, replayed from a trace of real system calls.

Killing a process cannot reveal a missing fsync, because the kernel writes back what the dead process wrote. So a
workload runs once under the tracer (shim.c), and this model then answers, for the instant after any of its calls, which
contents the disk may have.

The model
---------
- *Data.* What is written to a file, and its length, is durable once that file has been synced. Before that every write
  and every truncation may have reached the disk or not, in any subset; a write may be torn, any subset of its 512-byte
  sectors having arrived; or the file's new length has arrived while the bytes are zeros or garbage. A sector is written
  whole or not at all, and bytes beside those written stay what they were ("powersafe overwrite").
- *Names.* A create, rename, unlink or mkdir is durable once its directory has been synced; syncing a file does not make
  its name durable, although many file systems are so kind. Not yet durable changes of one directory arrive

  - ``ordered``: as a prefix, as on a journalling file system (ext4, XFS, APFS), each directory for itself; or
  - ``any``: in any subset, which is all that POSIX promises.

  A rename is atomic in both. Names and data are independent: a new name may stand for a file of no data.
- Syncs are honest, and what they made durable stays: no bit rot, no lying disk caches. But SQLite ignores an error when
  it syncs a directory, so the replay can leave those syncs out (:func:`without_swallowed_syncs`).

Sources: the assumptions of https://www.sqlite.org/atomiccommit.html and of SQLite's own crash-test VFS (``src/test6.c``
of its tree: each unsynced write is dropped, done or trashed, sector by sector); Pillai et al., "All File Systems Are
Not Created Equal", OSDI 2014 (names and data reorder, appends tear into length and data); Zheng et al., "Torturing
Databases for Fun and Profit", OSDI 2014 (replaying traced blocks up to a fault).

Not modelled: writes through mmap (SQLite's ``-shm`` in WAL mode, which it rebuilds after a crash), hard links, renames
between directories, direct I/O. What cannot be modelled is an error rather than a guess.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

SECTOR = 512
CREATE, WRITE, TRUNCATE, SYNC, SYNC_DIRECTORY, RENAME, UNLINK, MKDIR, RMDIR, MARK = range(1, 11)
_HEAD = struct.Struct("<B3xIIQQ")


class NotModelledError(ValueError):
    """The trace has something that this model has no words for: a bug of the model or of the tracer."""


@dataclass(frozen=True, slots=True)
class Record:
    """One traced call: see shim.c for the meaning of each field by operation."""

    op: int
    path: str
    other: str = ""
    offset: int = 0
    data: bytes = b""


def read_trace(data: bytes) -> list[Record]:
    """The records of a trace. Raises ValueError where it is cut off: then what follows is unknown."""
    records = []
    at = 0
    while at < len(data):
        head, at = data[at : at + _HEAD.size], at + _HEAD.size
        op, first, second, offset, size = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0, 0, 0, 0)
        end = at + first + second + size
        if end > len(data) or not CREATE <= op <= MARK:
            raise ValueError(f"the trace is cut off or damaged before byte {at}")
        path, other = data[at : at + first].decode(), data[at + first : at + first + second].decode()
        records.append(Record(op, path, other, offset, data[end - size : end]))
        at = end
    return records


def write_trace(records: Sequence[Record]) -> bytes:
    """The inverse of :func:`read_trace`."""
    parts = []
    for r in records:
        first, second = r.path.encode(), r.other.encode()
        parts += [_HEAD.pack(r.op, len(first), len(second), r.offset, len(r.data)), first, second, r.data]
    return b"".join(parts)


def without_swallowed_syncs(records: Sequence[Record]) -> list[Record]:
    """The trace less the syncs of directories that SQLite does: each follows the first sync of a journal it opened.

    That is the one which no truncation preceded (that of a commit is another), or which the header of a write-ahead log
    preceded.
    """
    found = []
    for number, record in enumerate(records):
        earlier, before = records[max(0, number - 2)], records[max(0, number - 1)]
        if record.op == SYNC_DIRECTORY and before.op == SYNC and earlier.path == before.path:
            is_first_of_journal = before.path.endswith("-journal") and earlier.op == WRITE
            is_first_of_log = before.path.endswith("-wal") and earlier.op == WRITE and earlier.offset == 0
            if is_first_of_journal or is_first_of_log:
                continue
        found.append(record)
    return found


# -- what survives -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keep:
    """What of one pending change has reached the disk.

    Parameters
    ----------
    sectors : None or frozenset of int
        Of a write: which sectors of the file (numbered from its start); None for all of them.
    fill : None or int
        Of a write: None where a dropped sector leaves no trace. Else the file's length has arrived all the same, and
        those of its bytes that never did are zeros (0) or garbage drawn from this seed.
    """

    sectors: frozenset[int] | None = None
    fill: int | None = None


WHOLE = Keep()


@dataclass(slots=True, eq=False)
class Change:
    """Something not yet durable: of a file's data (``data`` None: a truncation to ``offset``) or of a directory."""

    at: int
    """Its place in the trace."""
    offset: int = 0
    data: bytes | None = None
    old: str | None = None
    new: str | None = None
    node: File | Directory | None = None
    """The file or directory whose name changed: from ``old`` (None: made) to ``new`` (None: removed)."""

    @property
    def sectors(self) -> range:
        """The sectors of the file that a write touches."""
        size = len(self.data or b"")
        return range(self.offset // SECTOR, -(-(self.offset + size) // SECTOR))


Kept = Mapping[Change, Keep]
"""The pending changes that survived."""


@dataclass(slots=True, eq=False)
class File:
    """A file's bytes, by whatever name."""

    durable: bytes = b""
    pending: list[Change] = field(default_factory=list)

    def content(self, kept: Kept) -> bytes:
        """Its bytes where these pending changes survived."""
        chosen = [(change, kept[change]) for change in self.pending if change in kept]
        if not chosen:
            return self.durable
        data = bytearray(self.durable)
        for change, keep in chosen:
            if change.data is None:
                data[change.offset :] = bytes(max(0, change.offset - len(data)))
            else:
                _write(data, change, keep)
        return bytes(data)

    def sync(self) -> None:
        """All that was written is durable."""
        self.durable = self.content(dict.fromkeys(self.pending, WHOLE))
        self.pending = []


def _write(data: bytearray, change: Change, keep: Keep) -> None:
    written = change.data or b""
    end = change.offset + len(written)
    if keep.fill is not None and end > len(data):
        missing = end - len(data)
        data.extend(bytes(missing) if keep.fill == 0 else random.Random(keep.fill).randbytes(missing))
    for sector in change.sectors:
        if keep.sectors is None or sector in keep.sectors:
            first, last = max(sector * SECTOR, change.offset), min((sector + 1) * SECTOR, end)
            if first > len(data):
                data.extend(bytes(first - len(data)))
            data[first:last] = written[first - change.offset : last - change.offset]


@dataclass(slots=True, eq=False)
class Directory:
    """Names, as the running system sees them and as the disk is sure to have them."""

    durable: dict[str, File | Directory] = field(default_factory=dict)
    current: dict[str, File | Directory] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def names(self, kept: Kept) -> dict[str, File | Directory]:
        """The entries where these pending changes survived."""
        entries = dict(self.durable)
        for change in self.pending:
            if change in kept:
                _rename(entries, change)
        return entries

    def change(self, change: Change) -> None:
        """A name is made, moved or removed; not yet durably."""
        _rename(self.current, change)
        self.pending.append(change)

    def sync(self) -> None:
        """All changes of names are durable."""
        self.durable = dict(self.current)
        self.pending = []


def _rename(entries: dict[str, File | Directory], change: Change) -> None:
    if change.old is not None and entries.get(change.old) is change.node:
        del entries[change.old]
    if change.new is not None and change.node is not None:
        entries[change.new] = change.node


@dataclass(frozen=True, slots=True)
class Pending:
    """What is not durable: changes of each file's data, and changes of each directory's names."""

    data: list[list[Change]]
    names: list[list[Change]]

    @property
    def count(self) -> int:
        """Changes in all."""
        return sum(map(len, self.data)) + sum(map(len, self.names))


# -- the disk ------------------------------------------------------------------------------------------------------

Image = dict[str, bytes | None]
"""Files and directories (None) by their path below the traced directory: what a disk holds."""


class Disk:
    """A disk that follows a trace.

    Parameters
    ----------
    root : str
        The traced directory; it exists, durably, from the beginning.
    image : Image
        What it holds at the beginning, durably.
    """

    def __init__(self, root: str, image: Image | None = None) -> None:
        self.root = PurePosixPath(root)
        self.top = Directory()
        self.applied = 0
        for name, data in sorted((image or {}).items()):
            path = self.root / name
            parent = self._directory(path.parent)
            node: File | Directory = Directory() if data is None else File(data)
            parent.current[path.name] = parent.durable[path.name] = node

    def apply(self, record: Record) -> None:
        """Do what the record says was done. Raises NotModelledError where the model has no words for it."""
        self.applied += 1
        if record.op == MARK:
            return
        path = PurePosixPath(record.path)
        if record.op == SYNC_DIRECTORY:
            if path == self.root or self.root in path.parents:
                self._directory(path).sync()
        elif record.op in (WRITE, TRUNCATE, SYNC):
            self._change_file(path, record)
        else:
            self._change_name(path, record)

    def _change_file(self, path: PurePosixPath, record: Record) -> None:
        file = self._directory(path.parent).current.get(path.name)
        if not isinstance(file, File):
            raise NotModelledError(f"{path} is not a file that the trace made")
        if record.op == SYNC:
            file.sync()
        elif record.op == TRUNCATE:
            file.pending.append(Change(self.applied, record.offset))
        else:
            file.pending.append(Change(self.applied, record.offset, record.data))

    def _change_name(self, path: PurePosixPath, record: Record) -> None:
        directory = self._directory(path.parent)
        node = directory.current.get(path.name)
        if record.op in (CREATE, MKDIR):
            made: File | Directory = File() if record.op == CREATE else Directory()
            directory.change(Change(self.applied, new=path.name, node=made))
            return
        if node is None:
            raise NotModelledError(f"{path} is not a name that the trace made")
        new = None
        if record.op == RENAME:
            target = PurePosixPath(record.other)
            if target.parent != path.parent:
                raise NotModelledError(f"a rename between directories, {path} to {target}, is not modelled")
            new = target.name
        directory.change(Change(self.applied, old=path.name, new=new, node=node))

    def _directory(self, path: PurePosixPath) -> Directory:
        found = self.top
        for part in path.relative_to(self.root).parts:
            below = found.current.get(part)
            if not isinstance(below, Directory):
                raise NotModelledError(f"{path} is not a directory that the trace made")
            found = below
        return found

    def _nodes(self) -> Iterator[File | Directory]:
        """Every file and directory that some crash may leave."""
        seen: list[File | Directory] = []
        waiting: list[File | Directory] = [self.top]
        while waiting:
            node = waiting.pop()
            if any(node is other for other in seen):
                continue
            seen.append(node)
            yield node
            if isinstance(node, Directory):
                waiting += node.durable.values()
                waiting += [change.node for change in node.pending if change.node is not None]

    def pending(self) -> Pending:
        """What is not durable, in the order of the trace."""
        data: list[list[Change]] = []
        names: list[list[Change]] = []
        for node in self._nodes():
            if node.pending:
                (data if isinstance(node, File) else names).append(node.pending)
        return Pending(*(sorted(changes, key=lambda c: c[0].at) for changes in (data, names)))

    def image(self, kept: Kept) -> Image:
        """What the disk holds where these pending changes survived."""
        found: Image = {}

        def walk(directory: Directory, prefix: str) -> None:
            for name, node in directory.names(kept).items():
                if isinstance(node, Directory):
                    found[prefix + name] = None
                    walk(node, f"{prefix}{name}/")
                else:
                    found[prefix + name] = node.content(kept)

        walk(self.top, "")
        return found


def image_digest(image: Image) -> str:
    """Equal for equal disks."""
    digest = hashlib.blake2b(digest_size=12)
    for name in sorted(image):
        data = image[name]
        digest.update(f"{name}\0{-1 if data is None else len(data)}\0".encode())
        digest.update(data or b"")
    return digest.hexdigest()


def materialise(image: Image, directory: Path) -> None:
    """Make the directory hold exactly this image."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    for name in sorted(image):
        data, path = image[name], directory / name
        if data is None:
            path.mkdir(mode=0o700)
        else:
            path.write_bytes(data)
            path.chmod(0o600)


# -- what a crash leaves -------------------------------------------------------------------------------------------

Crash = tuple[str, Kept]
"""How it was chosen, and what survived."""

_STRICT = 0.25
"""Share of the crashes in which the names of a directory survive in any subset, not as a prefix."""


def crashes(pending: Pending, chance: random.Random) -> Iterator[Crash]:
    """Ways in which the power may go at one moment, without end: two certain ones, the telling ones, then chance.

    The first keeps nothing that was not durable, the second everything. Then, in random order, everything but one
    change, and one change only; and, in turn with these, drawn ones, where writes are torn.
    """
    everything = [change for group in (*pending.data, *pending.names) for change in group]
    yield "nothing", {}
    yield "everything", dict.fromkeys(everything, WHOLE)
    telling = [(but, change) for change in everything for but in (True, False)]
    chance.shuffle(telling)
    for but, one in telling:
        kept = [change for change in everything if (change is not one) == but]
        if chance.random() >= _STRICT:
            kept = _in_order(pending, kept, but=but)
        yield "all but one" if but else "only one", dict.fromkeys(kept, WHOLE)
        yield _drawn(pending, chance)
    while True:
        yield _drawn(pending, chance)


def _in_order(pending: Pending, kept: list[Change], *, but: bool) -> list[Change]:
    """Names made to survive as prefixes: what follows a lost one is lost; before a lone survivor all survive."""
    chosen = {id(change) for change in kept}
    for changes in pending.names:
        numbers = [number for number, change in enumerate(changes) if (id(change) in chosen) != but]
        length = (numbers or [len(changes)])[0] if but else (numbers or [-1])[-1] + 1
        chosen -= {id(change) for change in changes[length:]}
        chosen |= {id(change) for change in changes[:length]}
    return [change for group in (*pending.data, *pending.names) for change in group if id(change) in chosen]


def _drawn(pending: Pending, chance: random.Random) -> Crash:
    kept: dict[Change, Keep] = {}
    share = chance.choice((0.1, 0.5, 0.9))
    by_file = chance.random() < 0.25
    for changes in pending.data:
        survives = chance.random() < share
        for change in changes:
            if by_file:
                keep = WHOLE if survives else None
            else:
                keep = WHOLE if chance.random() < share else _torn(change, chance)
            if keep is not None:
                kept[change] = keep
    strict = chance.random() < _STRICT
    for changes in pending.names:
        length = chance.randint(0, len(changes))
        for number, change in enumerate(changes):
            if chance.random() < share if strict else number < length:
                kept[change] = WHOLE
    return f"{'whole files' if by_file else 'torn writes'}, names {'any' if strict else 'ordered'}", kept


def _torn(change: Change, chance: random.Random) -> Keep | None:
    """A write that did not arrive whole: nothing of it, some sectors, or the length it gave the file."""
    sectors = change.sectors
    if change.data is None or chance.random() < 0.4:
        return None
    fill = chance.choice((None, 0, chance.getrandbits(32)))
    way = chance.randrange(4)
    cut = chance.randint(sectors.start, sectors.stop)
    if way == 0:
        return Keep(frozenset(range(sectors.start, cut)), fill)
    if way == 1:
        return Keep(frozenset(range(cut, sectors.stop)), fill)
    if way == 2:
        return Keep(frozenset(sector for sector in sectors if chance.random() < 0.5), fill)
    return Keep(frozenset(), fill)
