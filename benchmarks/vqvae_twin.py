"""The PyTorch twins of `benchmarks.vqvae`: the same networks from the same weights."""

import functools

import numpy as np

DECAY = 0.99
BETA = 0.25


def codebook(codes: int, dim: int) -> np.ndarray:
    """Codes of unit length to begin with."""
    book = np.random.default_rng(4).standard_normal((codes, dim), np.float32)
    return book / np.linalg.norm(book, axis=-1, keepdims=True)


def _autoencoder(params):
    """Returns `encode` and `decode`, of images and latents [b, h, w, c], with these weights."""
    import torch.nn.functional as F

    heads = 4

    def dense(x, name):
        bias = params.get(f"{name}/bias")
        return F.linear(x, params[f"{name}/kernel"].T, bias)

    def conv(x, name, stride=1):
        kernel = params[f"{name}/kernel"].permute(3, 2, 0, 1)
        return F.conv2d(x, kernel, params[f"{name}/bias"], stride, 1)

    def norm(x, name):
        return F.group_norm(x, 8, params[f"{name}/scale"], params[f"{name}/bias"], 1e-6)

    def block(x, name):
        h = x
        for i in (1, 2):
            h = conv(F.silu(norm(h, f"{name}/norm{i}")), f"{name}/conv{i}")
        return x + h

    def blocks(x, kind, level):
        index = 0
        while f"{kind}_{level}_{index}/conv1/kernel" in params:
            x, index = block(x, f"{kind}_{level}_{index}"), index + 1
        return x

    def attention(x, name):
        if f"{name}/to_q/kernel" not in params:
            return x
        b, c, h, w = x.shape
        y = norm(x, f"{name}/group_norm").flatten(2).transpose(1, 2)
        q, k, v = (
            dense(y, f"{name}/{n}").view(b, h * w, heads, -1).transpose(1, 2)
            for n in ("to_q", "to_k", "to_v")
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        return x + dense(y, f"{name}/to_out_0").transpose(1, 2).view(b, c, h, w)

    levels = 1 + sum(f"downs_{i}/conv/kernel" in params for i in range(9))
    patch = int((params["patch_in/kernel"].shape[0] // 3) ** 0.5)

    def encode(x):
        b, h, w, _ = x.shape
        x = x.view(b, h // patch, patch, w // patch, patch, 3).permute(0, 1, 3, 2, 4, 5)
        x = dense(x.flatten(3), "patch_in").permute(0, 3, 1, 2)
        for level in range(levels):
            if level:
                x = conv(x, f"downs_{level - 1}/conv", 2)
            x = blocks(x, "encoder_blocks", level)
        x = F.silu(norm(attention(x, "encoder_attention"), "encoder_norm"))
        return dense(x.permute(0, 2, 3, 1), "encoder_out").float()

    def decode(z):
        x = attention(conv(z.permute(0, 3, 1, 2), "decoder_in"), "decoder_attention")
        for level in range(levels - 1, -1, -1):
            x = blocks(x, "decoder_blocks", level)
            if level:
                x = conv(F.interpolate(x, scale_factor=2), f"ups_{level - 1}/conv")
        x = conv(F.silu(norm(x, "decoder_norm")), "patch_out").permute(0, 2, 3, 1)
        b, h, w, _ = x.shape
        x = x.view(b, h, w, patch, patch, 3).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(b, h * patch, w * patch, 3)
        if "head_in/kernel" in params:
            y = conv(F.silu(conv(x.permute(0, 3, 1, 2), "head_in")), "head_out")
            x = x + y.permute(0, 2, 3, 1)
        return x.float()

    return encode, decode


def train(weights, codes: int, images: np.ndarray, device: str, cast, wrap, rate: float):
    """Returns a function that trains for one more step and returns its squared error."""
    import torch
    import torch.nn.functional as F

    params = {k: torch.from_numpy(v).to(device).requires_grad_() for k, v in weights.items()}
    encode, decode = _autoencoder(params)

    def forward(x, book):
        z = F.normalize(encode(x), dim=-1)
        flat = z.flatten(0, 2)
        chosen = (flat @ book.T).argmax(-1)
        q = book[chosen]
        y = decode((flat + (q - flat).detach()).view_as(z))
        l2 = (y - x).square().mean()
        return l2 + BETA * (flat - q).square().mean(), l2, flat.detach(), chosen

    run = wrap(forward)
    adam = torch.optim.Adam(params.values(), rate, (0.9, 0.99), fused=device == "cuda")
    book = torch.from_numpy(codebook(codes, len(weights["encoder_out/bias"]))).to(device)
    state = {"book": book, "sum": book.clone(), "count": torch.ones(codes, device=device)}
    uint8 = torch.from_numpy(images).to(device)

    def step():
        with cast:
            loss, l2, flat, chosen = run(uint8.float() / 127.5 - 1.0, state["book"])
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        counts = torch.bincount(chosen, minlength=codes).float()
        sums = torch.zeros_like(state["sum"]).index_add_(0, chosen, flat)
        state["count"].lerp_(counts, 1.0 - DECAY)
        state["sum"].lerp_(sums, 1.0 - DECAY)
        state["book"] = F.normalize(state["sum"], dim=-1)
        return [l2.detach().cpu().numpy()[None]]

    return step


def nearness(z: np.ndarray, book: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Cosines of latents and the codes chosen for them."""
    return np.einsum("nz,nz->n", z, book[chosen])


def search(z: np.ndarray, book: np.ndarray, device: str, wrap):
    """A function that finds the nearest codes, all distances at once."""
    import torch

    on_device = [torch.from_numpy(v).to(device) for v in (z, book)]
    find = wrap(lambda z, book: (book.square().sum(-1)[None] - 2.0 * z @ book.T).argmin(-1))

    @torch.inference_mode()
    def run():
        return [nearness(z, book, find(*on_device).cpu().numpy())]

    return run


def _transformer(weights, heads: int, device: str):
    """`forward(ids, start, caches, text)`: logits of ids from place `start` on; with caches, keys
    and values of all places, of a causal transformer's next code.
    """
    import torch
    import torch.nn.functional as F

    params = {k: torch.from_numpy(v).to(device) for k, v in weights.items()}
    depth = sum(f"blocks_{i}/fc1/kernel" in params for i in range(99))
    places = (
        params["row_embedding"][:, None, None]
        + params["column_embedding"][None, :, None]
        + params["depth_embedding"]
    ).flatten(0, 2)

    def dense(x, name):
        return F.linear(x, params[f"{name}/kernel"].T, params.get(f"{name}/bias"))

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], params[f"{name}/scale"], params[f"{name}/bias"], 1e-5)

    def split(x):
        return x.view(*x.shape[:2], heads, -1).transpose(1, 2)

    def attend(q, k, v, is_causal=False):
        y = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return y.transpose(1, 2).flatten(2)

    def block(x, name, text, cache, start, is_causal):
        h = norm(x, f"{name}/norm1")
        film = dense(F.silu(text.mean(1)), f"{name}/film/gamma_beta")[:, None]
        gamma, beta = film.chunk(2, -1)
        h = h * (1.0 + gamma) + beta
        q, k, v = (split(dense(h, f"{name}/{n}")) for n in ("to_q", "to_k", "to_v"))
        if cache is not None:
            cache[0][:, :, start], cache[1][:, :, start] = k[:, :, 0], v[:, :, 0]
            k, v = (c[:, :, : start + 1] for c in cache)
        x = x + dense(attend(q, k, v, is_causal), f"{name}/to_out")
        h = norm(x, f"{name}/cross/norm")
        q = split(dense(h, f"{name}/cross/attention/to_q"))
        k, v = (split(dense(text, f"{name}/cross/attention/{n}")) for n in ("to_k", "to_v"))
        h = dense(attend(q, k, v), f"{name}/cross/attention/to_out_0")
        x = x + h * params[f"{name}/cross/scale"]
        h = F.gelu(dense(norm(x, f"{name}/norm2"), f"{name}/fc1"), approximate="tanh")
        return x + dense(h, f"{name}/fc2")

    def forward(ids, start, caches, text, is_causal=False):
        x = params["code_embedding/embedding"][ids] + places[start : start + ids.shape[1]]
        for i in range(depth):
            x = block(x, f"blocks_{i}", text, caches[i] if caches else None, start, is_causal)
        return dense(norm(x, "final_norm"), "head").float()

    shape = (heads, len(places), params["blocks_0/to_q/kernel"].shape[1] // heads)

    def empty(count, dtype):
        return [
            [torch.zeros(count, *shape, device=device, dtype=dtype) for _ in range(2)]
            for _ in range(depth)
        ]

    return forward, empty, len(places)


def masked(weights, heads, codes, text, steps, device, cast, wrap):
    """A function that draws the likeliest codes in some steps, the surest first."""
    import torch

    forward, _, length = _transformer(weights, heads, device)
    logits_of, text = wrap(lambda ids, text: forward(ids, 0, None, text)), _on(text, device)
    first = _first(forward, codes, length, text, cast)

    @torch.inference_mode()
    def run():
        ids = torch.full((len(text), length), codes, device=device)
        for index in range(steps):
            hidden = ids == codes
            with cast:
                logits = logits_of(ids, text)
            log_p, drawn = logits.log_softmax(-1).max(-1)
            sure = log_p.masked_fill(~hidden, float("inf"))
            number = int(np.floor(np.cos(0.5 * np.pi * (index + 1) / steps) * length))
            ids = torch.where(hidden, drawn, ids)
            if number > 0:
                ids.scatter_(1, sure.argsort(dim=1, stable=True)[:, :number], codes)
        return [first, ids.cpu().numpy()]

    return run


def ordered(weights, heads, codes, text, device, cast, wrap):
    """A function that draws the likeliest codes one after the other, with a cache."""
    import torch

    del wrap  # a cache that grows compiles anew at every place
    forward, empty, length = _transformer(weights, heads, device)
    text = _on(text, device)
    first = _first(functools.partial(forward, is_causal=True), codes, length, text, cast)

    @torch.inference_mode()
    def run():
        dtype = torch.get_autocast_dtype(device) if cast._enabled else torch.float32
        caches, ids = empty(len(text), dtype), torch.full((len(text), 1), codes, device=device)
        out = []
        for index in range(length):
            with cast:
                logits = forward(ids, index, caches, text)
            ids = logits.argmax(-1)
            out.append(ids)
        return [first, torch.cat(out, 1).cpu().numpy()]

    return run


def _first(forward, codes, length, text, cast):
    """Logits where all codes are hidden."""
    import torch

    ids = torch.full((len(text), length), codes, device=text.device)
    with torch.inference_mode(), cast:
        return forward(ids, 0, None, text).cpu().numpy()


def _on(array, device):
    import torch

    return torch.from_numpy(array).to(device)
