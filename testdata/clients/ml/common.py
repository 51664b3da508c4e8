"""What the clients share: a small model, and checksums of what was loaded."""

import hashlib

import torch


def sums(tensors):
    """Type, shape and checksum of each of a dict of tensors."""
    def one(t):
        t = t.detach().contiguous()
        return str(t.dtype), list(t.shape), hashlib.sha256(t.reshape(-1).view(torch.uint8).numpy()).hexdigest()

    return {name: one(t) for name, t in tensors.items()}


def check(have, want):
    """The bits of two dicts of tensors."""
    have, want = sums(have), sums(want)
    assert have == want, [name for name in have.keys() | want.keys() if have.get(name) != want.get(name)]
    return have


class Net(torch.nn.Module):
    """Layers of several types, and two names for one tensor."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(1000, 64)
        self.body = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64))
        self.norm = torch.nn.LayerNorm(64)
        self.head = torch.nn.Linear(64, 1000, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("steps", torch.arange(300, dtype=torch.int64))
        self.register_buffer("halves", torch.randn(300, 100).to(torch.bfloat16))

    def forward(self, x):
        return self.head(self.norm(self.body(self.embed(x))))


def trained():
    """A Net after a few steps, and its optimizer."""
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(3):
        x = torch.randint(0, 1000, (8, 16))
        torch.nn.functional.cross_entropy(net(x).flatten(0, 1), x.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net, optimizer
