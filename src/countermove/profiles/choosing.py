import torch
import torch.nn.functional as F


def greedy(network, features, candidates, count, label, *, allowed=None):
    rows = []
    own = network.summary(features[None], torch.ones(1, len(features), dtype=torch.bool))
    each = network.summary(candidates[:, None], torch.ones(len(candidates), 1, dtype=torch.bool))
    free = torch.ones(len(candidates), dtype=torch.bool)
    for _ in range(count):
        loss = F.cross_entropy(
            network.joined(own + each), torch.full((len(candidates),), label), reduction="none"
        ).masked_fill(~free, -torch.inf)
        b = int(loss.argmax())
        rows.append(b)
        free[b] = False
        own = own + each[b : b + 1]
    return torch.tensor(rows)


def least_similar(profile, candidates, count):
    return (profile @ F.normalize(candidates).T).topk(count, largest=False).indices
