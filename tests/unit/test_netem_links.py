"""What links tell the kernel from change to change; the kernel is played by a list."""

from __future__ import annotations

from typing import Any, ClassVar

from netem.link import AccessLink, LinkSpec, Topology
from netem.links import Links
from netem.star import Interface


class Shaper:
    """Stands where the shaper's process stands: notes what it is asked, and takes everything."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def ask(self, _: object = (), **message: Any) -> dict[str, Any]:
        if message["do"] == "shape":
            self.seeds += [link["new"]["netem"]["seed"] for link in message["links"] if link["new"]["netem"]]
        return {"queues": [[] for _ in message.get("places", ())]}


class Star:
    hosts: ClassVar = {1: Interface(1, "server", 10), 2: Interface(2, "client", 10)}
    ports: ClassVar = {1: Interface(0, "to-server", 1001), 2: Interface(0, "to-client", 1002)}


def links(shaper: Any, seed: int | None) -> Links:
    star: Any = Star()
    made = Links(shaper, star, {"a": 2}, burst_s=0.000125, seed=seed, turns=False)
    made._check = lambda _: None  # type: ignore[method-assign]
    return made


def star_of(loss: float, rate_bps: float = 1e6) -> Topology:
    lossy = AccessLink(LinkSpec(rate_bps, loss=loss), LinkSpec(1e6))
    return Topology(AccessLink(LinkSpec(1e9), LinkSpec(1e9)), {"a": lossy})


def test_a_link_that_changes_draws_on_and_the_same_run_draws_the_same() -> None:
    first, second, other = Shaper(), Shaper(), Shaper()
    for shaper, seed in ((first, 7), (second, 7), (other, 8)):
        made = links(shaper, seed)
        for dilation in (1.0, 1.0, 4.0, 4.0, 1.0):  # only two of these change anything
            made.apply(star_of(0.01), dilation, 0.0)
    assert len(first.seeds) == len(set(first.seeds)) == 3
    assert second.seeds == first.seeds
    assert not set(other.seeds) & set(first.seeds)


def test_without_a_seed_the_kernel_draws_its_own() -> None:
    shaper = Shaper()
    links(shaper, None).apply(star_of(0.01), 1.0, 0.0)
    assert shaper.seeds == [None]
