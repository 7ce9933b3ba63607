"""Golden file of tokenizers: ids of OpenCLIP's `SimpleTokenizer` and transformers' `BertTokenizer`.

Run where open_clip (the wheel without its dependencies is enough), ftfy, regex, torch and
transformers are installed:

    python tests/golden/make_tokenizers.py weights_small.zip

The archive holds both vocabularies. The strings are stored with the ids: which code points have
a name, and so what is drawn, depends on Python's version. Made with open_clip 3.3.0, ftfy 6.3.1,
regex 2026.11.15, transformers 5.23.0 and Python 3.11 (Unicode 14).
"""

import hashlib
import pathlib
import random
import sys
import unicodedata
import zipfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
CLIP_FILE, BERT_FILE = "bpe_simple_vocab_16e6.txt.gz", "minilm_bert_vocab.txt"
COUNT, LENGTH, LONG = 1000, 77, 10_000
SEED = 20261122

# First and last code point: scripts, marks, symbols, pictures, controls, private use.
BLOCKS = (
    (0x00, 0x1F), (0x20, 0x7E), (0x7F, 0xA0), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2AF),
    (0x2B0, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F),
    (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x7BF), (0x900, 0x97F), (0x980, 0x9FF),
    (0xA00, 0xA7F), (0xB80, 0xBFF), (0xD00, 0xD7F), (0xE00, 0xE7F), (0xE80, 0xEFF),
    (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F),
    (0x13A0, 0x13FF), (0x1400, 0x167F), (0x16A0, 0x16FF), (0x1780, 0x17FF), (0x1800, 0x18AF),
    (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20CF),
    (0x20D0, 0x20FF), (0x2100, 0x218F), (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2300, 0x23FF),
    (0x2460, 0x24FF), (0x2500, 0x257F), (0x2600, 0x26FF), (0x2700, 0x27BF), (0x2800, 0x28FF),
    (0x2C00, 0x2C5F), (0x2E80, 0x2EFF), (0x3000, 0x303F), (0x3040, 0x309F), (0x30A0, 0x30FF),
    (0x3100, 0x312F), (0x3130, 0x318F), (0x3300, 0x33FF), (0x4E00, 0x9FFF), (0xA000, 0xA48F),
    (0xA720, 0xA7FF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFB4F),
    (0xFB50, 0xFDFF), (0xFE00, 0xFE0F), (0xFE30, 0xFE6F), (0xFE70, 0xFEFF), (0xFF00, 0xFFEF),
    (0xFFF0, 0xFFFF), (0x10000, 0x100FF), (0x10330, 0x1034F), (0x10400, 0x1044F),
    (0x12000, 0x123FF), (0x13000, 0x1342F), (0x16F00, 0x16F9F), (0x1D100, 0x1D1FF),
    (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x1EE00, 0x1EEFF), (0x1F000, 0x1F02F),
    (0x1F100, 0x1F1FF), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1F680, 0x1F6FF),
    (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF), (0xE0020, 0xE007F), (0xE0100, 0xE01EF),
)  # fmt: skip

HARD = (
    "",
    " ",
    "\t\n\r\x0b\x0c",
    "a",
    "A photo of a cat.",
    "it's they're I've I'm we'll she'd don't",
    "IT'S THEY'RE I'VE",
    "'s't're",
    "’s ‘quoted’ “curly” ‚low„",
    "it'ſ a long s",
    "\u212a \u212b",
    "<start_of_text>",
    "!!<end_of_text> x",
    "<START_OF_TEXT>a",
    "<ſtart_of_text>",
    "&lt;end_of_text&gt;",
    "<|startoftext|> <|endoftext|>",
    "&amp;amp;amp; &lt;b&gt; &#65; &#x1F600; &#0; &#xD800; &nbsp;x",
    "&amp;eacute;",
    "<b>&eacute;</b>",
    "Ã©tÃ© cafÃ©",
    "l’humanitÃ©",
    "âœ” No problems",
    "â€œquotedâ€\x9d",
    "ÐŸÑ€Ð¸Ð²ÐµÑ‚",
    "sÃ³lo &lt;3",
    "\ufeffBOM",
    "ﬁﬂ ﬃ ligatures",
    "ＦＵＬＬ　ｗｉｄｔｈ １２３",
    "ｶﾞｷﾞ",
    "e\u0301 \u00e9 o\u0308\u0323",
    "\u1e9b\u0323",
    "İstanbul ıI",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ",
    "ǅ ǈ ß ẞ",
    "x\x00y\x01z\x7f\x85w",
    "a\u200bb\u200cc\u200dd\u2060e",
    "\u202eright to left\u202c",
    "a\u2028b\u2029c",
    "a\x1cb\x1dc\x1ed\x1ff",
    "\x1b[31mred\x1b[0m",
    "line\r\nline\rline",
    "\ud800",
    "\udfffx",
    "\ud83d\ude00",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 1️⃣ ❤️",
    "🏴\U000e0067\U000e0062\U000e007f",
    "１２３ ٣٤٥ ३४५ Ⅷ ½ ② 𝟙",
    "snake_case kebab-case CamelCase",
    "http://example.com/?a=1&b=2#c",
    "3.14159, 1e-5; $100 €20 100%",
    "()[]{}<>!?*&^%$#@~`|\\/",
    "...---___===",
    "日本語の文章と English 混在",
    "ไม่มีช่องว่าง",
    "नमस्ते दुनिया",
    "שלום עולם",
    "مرحبا بالعالم",
    "안녕하세요",
    "ꙮ",
    "z̷̢̛a̸l̶g̴o̵",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "[ sep ]",
    "##ing",
    "unaffable",
    "�",
    "a" * 101,
    "￾￿",
)

PHRASES = (
    "A close-up of the face of a cat", "two dogs' bones; it's 9 o'clock", "Café au lait, déjà vu",
    "Größenwahn in Zürich", "Привет, мир", "Καλημέρα κόσμε", "東京の夜景", "今日は良い天気です",
    "naïve façade – œuvre", "£5 or €6?", "smörgåsbord", "“Hello,” she said",
)  # fmt: skip


WORDS = (
    "a", "the", "photo", "of", "Red", "BLUE", "cat's", "dogs'", "they'll", "isn't", "I'd", "3",
    "12px", "#tag", "@me", "x-ray",
)  # fmt: skip


def letters(rng: random.Random, block: tuple[int, int], count: int) -> str:
    """Code points of the block that have a meaning, with a blank now and then."""
    found = []
    while len(found) < count:
        if rng.random() < 0.12:
            found.append(" ")
        character = chr(rng.randint(*block))
        if unicodedata.category(character) not in ("Cn", "Cs") or rng.random() < 0.02:
            found.append(character)
    return "".join(c for c in found if unicodedata.category(c) not in ("Cn", "Cs"))


def mojibake(rng: random.Random) -> str:
    text = rng.choice(PHRASES)
    for _ in range(rng.randint(1, 2)):
        codec = rng.choice(("latin-1", "cp1252", "cp1251", "macroman"))
        text = text.encode("utf-8").decode(codec, "ignore")
    return text


def entities(rng: random.Random) -> str:
    names = (
        "&amp;",
        "&lt;",
        "&eacute;",
        "&#233;",
        "&#x263A;",
        "&hellip;",
        "&ampamp",
        "&quot",
        "&;",
    )
    parts = [rng.choice((*names, *PHRASES, "<i>", "&AMP;")) for _ in range(rng.randint(2, 6))]
    return rng.choice((" ", "")).join(parts)


def sentence(rng: random.Random) -> str:
    chosen = [rng.choice(WORDS) for _ in range(rng.randint(3, 60))]
    return rng.choice((" ", " ", "  ", "\n")).join(chosen)


def strings() -> list[str]:
    """COUNT different ones."""
    rng = random.Random(SEED)
    found = dict.fromkeys(HARD)
    for block in BLOCKS:
        for size in (6, 40):
            found[letters(rng, block, size)] = None
    while len(found) < COUNT:
        kind = rng.random()
        if kind < 0.45:
            found[letters(rng, rng.choice(BLOCKS), rng.randint(1, 24))] = None
        elif kind < 0.7:
            parts = [letters(rng, rng.choice(BLOCKS), rng.randint(1, 5)) for _ in range(6)]
            found["".join(parts)] = None
        elif kind < 0.8:
            found[mojibake(rng)] = None
        elif kind < 0.9:
            found[entities(rng)] = None
        else:
            found[sentence(rng)] = None
    return list(found)


def long_strings(short: list[str]) -> list[str]:
    """Of LONG characters each: one thing again and again, one word, all sorts."""
    units = (
        "a",
        "ab ",
        "A photo of a cat. ",
        "猫",
        "👩‍👧",
        "é",
        "\u0301",
        " ",
        "\x00",
        "'",
        "1",
        "&amp;",
    )
    found = [unit * LONG for unit in units]
    found += [" ".join(short[i : i + 300]) * 10 for i in range(0, len(short), 100)]
    found += ["".join("".join(short[i : i + 300]).split()) * 10 for i in range(0, len(short), 200)]
    return [text[:LONG] for text in found]


def pack(rows: list[list[int]], dtype) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different lengths as one array, and their lengths."""
    flat = [i for row in rows for i in row]
    return np.array(flat, dtype), np.array([len(row) for row in rows], np.uint16)


def unpack(flat: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    """The inverse of `pack`."""
    return [part.tolist() for part in np.split(flat, np.cumsum(lengths)[:-1])]


def read_strings(golden) -> list[str]:
    """The strings of the golden file."""
    rows = unpack(golden["text"], golden["text_lengths"])
    return [bytes(row).decode("utf-8", "surrogatepass") for row in rows]


def digest(ids: list[int]) -> str:
    """Of the ids of a text, whole and uncut, with start and end."""
    return hashlib.sha256(np.array(ids, np.uint16).tobytes()).hexdigest()


def golden_files(archive: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of the golden file by its name."""
    import tempfile

    from open_clip.tokenizer import SimpleTokenizer
    from transformers import BertTokenizer, CLIPTokenizer

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as vocabularies:
        for name in (CLIP_FILE, BERT_FILE):
            vocabularies.extract(name, folder)
        clip = SimpleTokenizer(str(pathlib.Path(folder) / CLIP_FILE))
        bert = BertTokenizer(str(pathlib.Path(folder) / BERT_FILE))
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {marks.get(token, token): i for token, i in clip.encoder.items()}
    hugging_face = CLIPTokenizer(vocab=vocab, merges=list(clip.bpe_ranks))

    short = strings()
    long = long_strings(short)
    whole = [[clip.sot_token_id, *clip.encode(text), clip.eot_token_id] for text in (*short, *long)]
    cut = [np.trim_zeros(row, "b").tolist() for row in clip(short, LENGTH).numpy()]
    plain = [text.encode("utf-8", "replace").decode() for text in (*short, *long)]
    same = sum(hugging_face(t)["input_ids"] == w for t, w in zip(plain, whole[:COUNT]))
    pieces = [bert(text)["input_ids"] for text in plain]
    out = {}
    raw = [list(text.encode("utf-8", "surrogatepass")) for text in short]
    out["text"], out["text_lengths"] = pack(raw, np.uint8)
    out["clip"], out["clip_lengths"] = pack(cut, np.uint16)
    out["clip_digests"] = np.array([digest(row) for row in whole[COUNT:]])
    ends = [bert(text, truncation=True, max_length=LENGTH)["input_ids"] for text in plain[:COUNT]]
    out["bert"], out["bert_lengths"] = pack(ends, np.uint16)
    out["bert_digests"] = np.array([digest(row) for row in pieces[COUNT:]])
    print(f"{COUNT} strings and {len(long)} long ones")
    print(f"transformers' CLIPTokenizer gives {same} of {COUNT} the same ids as open_clip")
    return {"tokenizers": out}


def main(archive: str) -> None:
    np.savez_compressed(HERE / "tokenizers.npz", **golden_files(archive)["tokenizers"])


if __name__ == "__main__":
    main(sys.argv[1])
