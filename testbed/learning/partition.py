"""Who has which samples: IID and Dirichlet splits of the training set, never of the test set."""

from __future__ import annotations

import numpy as np

from testbed.learning.errors import TaskError


def split(
    labels: np.ndarray,
    clients: int,
    seed: int,
    *,
    alpha: float | None = None,
    samples_per_client: int | None = None,
) -> list[np.ndarray]:
    """Indices of each client's samples; every sample belongs to at most one client, every client has at least one.

    Args:
        labels: integers, shape (samples,).
        clients: 1 to the number of samples.
        seed: equal arguments give equal splits.
        alpha: None for IID. Otherwise each class is dealt out by a Dirichlet(alpha) draw over the clients (Hsu et al.,
            arXiv:1909.06335): 0.1 gives clients a few classes each, 100 is nearly IID.
        samples_per_client: at most so many each; the rest is left out.

    Raises: TaskError where there are not enough samples.
    """
    labels = np.asarray(labels)
    if clients < 1 or len(labels) < clients:
        raise TaskError(f"cannot split {len(labels)} samples among {clients} clients")
    if samples_per_client is not None and samples_per_client < 1:
        raise TaskError(f"got samples_per_client {samples_per_client}; at least 1 is needed")
    random = np.random.default_rng(np.random.SeedSequence([seed, clients]))
    if alpha is None:
        shares = np.array_split(random.permutation(len(labels)), clients)
    else:
        if not (np.isfinite(alpha) and alpha > 0):
            raise TaskError(f"got alpha {alpha}; a Dirichlet parameter is finite and above 0")
        shares = _dirichlet(labels, clients, alpha, random)
    if samples_per_client is not None:
        shares = [share[:samples_per_client] for share in shares]
    return [share.astype(np.int64) for share in shares]


def _dirichlet(
    labels: np.ndarray, clients: int, alpha: float, random: np.random.Generator
) -> list[np.ndarray]:
    parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        cuts = (np.cumsum(random.dirichlet(np.full(clients, alpha)))[:-1] * len(members)).astype(np.int64)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    shares = [random.permutation(np.concatenate(part)) for part in parts]
    # A client without data could not train: the largest ones give one sample each.
    for index, share in enumerate(shares):
        if len(share) == 0:
            richest = max(range(clients), key=lambda other: len(shares[other]))
            shares[index], shares[richest] = shares[richest][:1], shares[richest][1:]
    return shares
