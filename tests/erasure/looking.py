"""Everything that a handle says about one text, to be compared with what a store says that never saw it.

As a script this is a reader in a process of its own: ``looking.py PATH TEXT ID`` answers each line of its input.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import memodb


def look(db: memodb.Store, text: str, document_id: str, *, digest: bool = True) -> dict[str, Any]:
    """Ask every read path; JSON-ready, and the same for two stores that hold the same documents."""
    ids = db.tokenizer.encode(text).tolist()
    prompts = [text[:end] for end in range(9, len(text), 29)]
    answers = db.lookup([ids[max(0, at - 16) : at] for at in range(1, len(ids) + 1)], 5)
    found: dict[str, Any] = {
        "next_tokens": [[(c.text, c.support) for c in db.next_tokens(prompt)] for prompt in prompts],
        "complete": [db.complete(prompt, 6, min_context=1).text for prompt in prompts[:2]],
        "score": [(token.text, token.known) for token in db.score(text).tokens],
        "lookup": [answers.token_ids.tolist(), answers.support.tolist(), answers.context_length.tolist()],
        "trace": [[span.start, span.end, [source.id for source in span.documents]] for span in db.trace(text)],
        "documents": [document.id for document in db.documents(order="id")],
        "named": [document.id for document in db.documents(ids=[document_id])],
        "exported": [[record["id"], record["text"]] for record in db.export()],
        "len": len(db),
        "contains": document_id in db,
        "collections": [[info.name, info.documents, info.tokens] for info in db.collections()],
        "statistics": [db.stats().documents, db.stats().tokens],
    }
    calls: dict[str, Callable[[str], Any]] = {"get": db.get, "text": db.text, "tokens": db.tokens}
    for name, call in calls.items():
        try:
            found[name] = str(call(document_id))
        except memodb.DocumentNotFound:
            found[name] = None
    if digest:
        found["digest"] = db.digest()
    return dict(json.loads(json.dumps(found)))


def main() -> None:
    path, text, document_id = sys.argv[1:]
    with memodb.connect(path, read_only=True) as db:
        for line in sys.stdin:
            json.dump(look(db, text, document_id, digest=line.strip() == "digest"), sys.stdout)
            print(flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
