"""What a third party needs to check, offline, what memodb signed; and what memodb needs to sign it.

``encoding`` gives every value one spelling, ``merkle`` hashes a log into a tree, ``entries`` are what it says,
``signing`` holds keys, ``heads`` are signed trees, ``receipts`` are signed statements with their place in the log,
``page`` shows one to people (imported by its own name), ``log`` exports and checks a log as a whole.
"""

from memodb.proof.encoding import canonical, parse, timestamp
from memodb.proof.entries import OPS, Entry, code, pseudonym
from memodb.proof.heads import Head
from memodb.proof.log import LogVerdict, verify_log, write_log
from memodb.proof.merkle import (
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from memodb.proof.receipts import Verdict, signed, verify
from memodb.proof.signing import Signer, fingerprint, new_key
from memodb.proof.statements import STATES, contradictions

__all__ = [
    "OPS",
    "STATES",
    "Entry",
    "Head",
    "LogVerdict",
    "Signer",
    "Tree",
    "Verdict",
    "canonical",
    "code",
    "consistency_proof",
    "contradictions",
    "fingerprint",
    "inclusion_proof",
    "leaf_hash",
    "new_key",
    "parse",
    "pseudonym",
    "signed",
    "timestamp",
    "verify",
    "verify_consistency",
    "verify_inclusion",
    "verify_log",
    "write_log",
]
