"""Which file system a store lies on: one that a single kernel owns, or none of ours.

flock(2), POSIX locks and mapped files are promises of one kernel. Network file systems break them in ways that no test
at open can see (https://www.sqlite.org/howtocorrupt.html, section 2), so they are refused by their names.
"""

from __future__ import annotations

from pathlib import Path

from memodb.errors import StoreError

__all__ = ["require_local"]

_NETWORK = {
    "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs3", "nfs4", "orangefs", "smb2", "smb3", "smbfs", "webdav",
}  # fmt: skip
_FUSE = {"sshfs", "s3fs", "gcsfuse", "glusterfs", "rclone", "davfs", "davfs2", "goofys", "blobfuse", "ceph-fuse"}


def require_local(path: Path) -> None:
    """Refuse a path on a network file system.

    Parameters
    ----------
    path : Path
        Of a store; what of it does not exist yet will lie where its parents do.

    Raises
    ------
    StoreError
        Names the file system and where it is mounted.
    """
    import psutil

    mounted = {Path(partition.mountpoint): partition.fstype for partition in psutil.disk_partitions(all=True)}
    real = path.resolve()
    for parent in (real, *real.parents):
        kind = mounted.get(parent)
        if kind is None:
            continue
        if kind in _NETWORK or kind.removeprefix("fuse.") in _FUSE:
            raise StoreError(
                f"{path} is on a network file system ({kind}, mounted at {parent}), where locks and durable writes "
                "cannot be relied on: keep the store on a local disk, and copy backups to the network"
            )
        return
