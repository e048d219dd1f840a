"""`memodb.connect`: from a path and settings to a handle."""

from __future__ import annotations

import os

from memodb import opening
from memodb.cipher import KeyService
from memodb.store import Store

__all__ = ["connect"]


def connect(
    path: str | os.PathLike[str],
    *,
    collection: str = "default",
    create: bool = True,
    read_only: bool = False,
    tokenizer: str | os.PathLike[str] | None = None,
    false_recall: float | None = None,
    heads: int | None = None,
    layers: int | None = None,
    window: int | None = None,
    segment_tokens: int | None = None,
    engine: str | None = None,
    codes: str | None = None,
    dim: int | None = None,
    encodings: str | None = None,
    require_provenance: bool | None = None,
    seed: bytes | None = None,
    checkpoint_tokens: int | None = None,
    device: str = "cpu",
    fast: bool | None = None,
    keys: KeyService | None = None,
    ledger: str | os.PathLike[str] | None = None,
    actor: str | None = None,
) -> Store:
    """Open a store, or create it.

    Parameters
    ----------
    path : path
        The store's directory, or ``":memory:"`` for one that lives as long as the handle.
    collection : str
        The collection this handle sees; created where it is missing, unless ``create`` is false.
    create : bool
        Whether a missing store or collection is created.
    read_only : bool
        Refuse writes, take no lock, and follow the commits of the process that writes.
    tokenizer : path, optional
        A ``tokenizers`` JSON file to bind a new store to; the shipped byte-level BPE otherwise. For an existing store
        it must be the one it is bound to.
    false_recall : float, optional
        Promise of a new store: the highest probability that a context which no document holds is answered. Default
        0.01.
    heads, layers : int, optional
        Of a new store: layer L (0..layers) looks at the last heads^L tokens. Default 4 and 2: contexts of 1, 4, 16.
    window : int, optional
        Of a new store: tokens of a provenance window, the shortest span that ``trace`` finds. Default 8.
    segment_tokens : int, optional
        Of a new store: tokens of the first segment; each next one takes twice as many. Default 2**24 (engine
        kohonen: 2**20).
    engine : {"willshaw", "kohonen"}, optional
        Of a new store: the memory that answers. ``"willshaw"``, the default, never misses and keeps ``false_recall``.
        ``"kohonen"`` is MeMo as published (arXiv 2502.12851), for research and comparison: it has no ``false_recall``,
        may miss, and takes ``layers`` from 1.
    codes : {"rademacher", "gaussian"}, optional
        Of a new store with engine ``"kohonen"``: ±1 codes, with which forgetting is exact (default), or the paper's,
        with which it is not, and receipts say so.
    dim : int, optional
        Of a new store with engine ``"kohonen"``: numbers of a token's vector; a layer's matrix has dim x dim float32
        cells. Default 1024.
    encodings : {"computed", "recalled"}, optional
        Of a new store with engine ``"kohonen"``: whether the encodings of a context's blocks are computed (default), as
        for the authors' results, or recalled from the lower layers' matrices, as the paper writes it.
    require_provenance : bool, optional
        Of a new store: refuse documents that have no source, or no writer while the handle has no ``actor``.
    seed : bytes, optional
        32 secret bytes for a new collection's matrices; random otherwise. Equal seeds, settings and documents give
        equal bytes: how a store is compared with one that never saw a document.
    checkpoint_tokens : int, optional
        Of this handle: how many appended tokens the next open may have to memorise again before a checkpoint is written
        by itself. Without it 65,536, or an eighth of a larger segment: a checkpoint writes a whole segment, about 20
        bytes a token.
    device : {"cpu", "cuda", "auto"}
        Where the matrices live.
    fast : bool, optional
        On the CPU: whether kernels that numba compiles are used, with the same results; where it is installed
        (``memodb[fast]``), if it is not said. They are compiled once a machine, in some twenty seconds.
    keys : KeyService, optional
        Where the keys of documents and tiles are kept; a file of the store's otherwise. It must be given again at every
        opening.
    ledger : path, optional
        Directory of the store's ledger (its audit log's mirror and its two secret keys), which must not be in backups
        and should be on another disk; ``ledger`` in the store's directory otherwise. To be given at every opening.
    actor : str, optional
        Pseudonym of whoever works with this handle, for the audit log, and the writer of documents that name none: a
        code such as ``dpo-2``.

    Raises
    ------
    StoreNotFound, CollectionNotFound
        It does not exist, and ``create`` is false or ``read_only`` is true.
    StoreLocked
        Another process has it open for writing.
    StoreMismatch
        A setting differs from the one the store was created with; or the ledger is another store's.
    LedgerMissing
        The ledger is gone; or it knows more than the store, which is an older copy, and ``read_only`` is true.
    SchemaTooNew, CorruptStore
        The store was made by a newer memodb, or contradicts itself.
    OutOfMemory
        There is no room for the memory that the settings ask for; nothing was created.
    InvalidConfiguration, BackendUnavailable
        A setting nothing can be built from; a device this machine lacks.
    Conflict
        The path is something else than a store.
    """
    opening.require_collection(collection, seed)
    settings = {
        "false_recall": false_recall,
        "heads": heads,
        "layers": layers,
        "window": window,
        "segment_tokens": segment_tokens,
        "engine": engine,
        "codes": codes,
        "dim": dim,
        "encodings": encodings,
    }
    options = opening.Options(
        create=create,
        read_only=read_only,
        tokenizer=tokenizer,
        require_provenance=require_provenance,
        settings={name: value for name, value in settings.items() if value is not None},
        checkpoint_tokens=checkpoint_tokens,
        device=device,
        fast=fast,
        keys=keys,
        ledger=ledger,
        actor=actor,
    )
    opened = opening.open_engine(path, options)
    try:
        return Store(opened, opened.collection(collection, create=create, seed=seed))
    except BaseException:
        opened.close()
        raise
