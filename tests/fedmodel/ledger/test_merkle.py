"""The Merkle tree against RFC 6962's definitions, written down naively, and its known roots."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.errors import ProtocolError
from fedmodel.ledger.merkle import Tree, check_consistency, leaf_hash, root_of
from tests.examples import examples

# The eight inputs of Certificate Transparency's own tests, and roots over the first n of them.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
MOST = 40
ENTRIES = [str(i).encode() for i in range(MOST)]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def naive_split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def naive_root(entries: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1."""
    if not entries:
        return sha256(b"")
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0])
    k = naive_split(len(entries))
    return sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:]))


def naive_proof(m: int, entries: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2."""
    n = len(entries)
    if m == n:
        return [] if whole else [naive_root(entries)]
    k = naive_split(n)
    if m <= k:
        return [*naive_proof(m, entries[:k], whole), naive_root(entries[k:])]
    return [*naive_proof(m - k, entries[k:], False), naive_root(entries[:k])]


def tree_of(entries: Sequence[bytes]) -> Tree:
    return Tree(map(leaf_hash, entries))


@pytest.mark.parametrize("size", ROOTS)
def test_the_published_roots(size: int) -> None:
    assert tree_of(INPUTS[:size]).root().hex() == ROOTS[size]
    assert tree_of(INPUTS).root(size).hex() == ROOTS[size]
    assert root_of([leaf_hash(x) for x in INPUTS[:size]]).hex() == ROOTS[size]


def test_every_root_and_every_proof_up_to_forty_entries() -> None:
    tree = tree_of(ENTRIES)
    roots = [naive_root(ENTRIES[:n]) for n in range(MOST + 1)]
    for n in range(MOST + 1):
        assert tree.root(n) == tree_of(ENTRIES[:n]).root() == roots[n]
        assert root_of([leaf_hash(x) for x in ENTRIES[:n]]) == roots[n]
        for m in range(n + 1):
            proof = tree.proof(m, n)
            assert proof == (naive_proof(m, ENTRIES[:n]) if m else [])
            check_consistency(m, n, roots[m], roots[n], proof)


def test_a_tree_grows_from_any_size_on() -> None:
    for n in range(MOST + 1):
        tree = tree_of(ENTRIES[:n])
        for entry in ENTRIES[n:]:
            tree.append(leaf_hash(entry))
        assert [tree.root(m) for m in range(MOST + 1)] == [
            naive_root(ENTRIES[:m]) for m in range(MOST + 1)
        ]


def test_no_proof_shows_what_is_not_so() -> None:
    tree = tree_of(ENTRIES)
    other = tree_of([*ENTRIES[:5], b"changed", *ENTRIES[6:]])
    for n in range(1, 20):
        for m in range(1, n + 1):
            proof = tree.proof(m, n)
            old, new = tree.root(m), tree.root(n)
            wrong = [
                (m, n, new if m != n else sha256(old), new, proof),
                (m, n, old, sha256(new), proof),
                (m, n, old, new, [*proof, old]),
                (n + 1, n, old, new, proof),
                (m, n, old, new, proof[:-1] if proof else [old]),
            ]
            wrong += [
                (m, n, old, new, [*proof[:i], sha256(proof[i]), *proof[i + 1 :]])
                for i in range(len(proof))
            ]
            if n > 5:
                # Whoever changed entry 5 can't show that the list begins as it did …
                if m > 5:
                    wrong.append((m, n, old, other.root(n), other.proof(m, n)))
                # … nor pass one size for another.
                wrong.append((m, n, tree.root(m - 1), new, proof))
            for case in wrong:
                with pytest.raises(ProtocolError, match="don't prove"):
                    check_consistency(*case)
    with pytest.raises(ProtocolError):
        check_consistency(0, 3, tree.root(1), tree.root(3), [])
    with pytest.raises(ProtocolError):
        check_consistency(2, 3, tree.root(2), tree.root(3), [])


@pytest.mark.long
@settings(max_examples=examples(200), deadline=None)
@given(
    sizes=st.tuples(st.integers(-1, 12), st.integers(-1, 12)),
    proof=st.lists(st.binary(min_size=32, max_size=32), max_size=6),
)
def test_random_proofs_fail(sizes: tuple[int, int], proof: list[bytes]) -> None:
    old, new = sizes
    first, second = sha256(b"a"), sha256(b"b")
    with pytest.raises(ProtocolError):
        check_consistency(old, new, first, second, proof)


def test_sizes_that_are_not_there() -> None:
    tree = tree_of(ENTRIES[:3])
    for ask in (lambda: tree.root(4), lambda: tree.proof(2, 4), lambda: tree.proof(3, 2)):
        with pytest.raises(IndexError):
            ask()
    assert len(tree) == 3
