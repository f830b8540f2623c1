#!/usr/bin/env python3
"""The tokenizer against its oracle, transformers' CLIPTokenizer.

  --make PREFIX       writes PREFIX.txt (one string a line) and PREFIX.STYLE.ids (the oracle's 77 ids a line)
  --check PROGRAM     runs PROGRAM on such a corpus and counts the lines whose ids differ. PROGRAM is a command line in
                      which {model} stands for a model directory, {tokenizer} for its tokenizer directory, {file} for
                      the corpus; "./sd" alone is "./sd tokenize -m {model} --ids --file {file}"
  --golden FILE       a few hundred strings and their ids, for tests/test_tokenizer.c
  --sweep FILE        one hash of the ids for each 4096 code points, for tests/test_tokenizer.c
  --tables            the rows of `exceptions` in unicode.c: where utf8proc and the oracle know different Unicode

Lines end at "\\n" and nowhere else: strings hold every other control character. Styles are the published kinds of
tokenizer directory: sd1 pads with the end token, sd2 with "!" (special_tokens_map.json), xl2 likewise
(added_tokens_decoder), json is sd2 as transformers 5 saves it (tokenizer.json alone)."""
import argparse
import ctypes
import ctypes.util
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
ALL = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]


# ------------------------------------------------------------------------------------ tokenizer directories

def byte_symbols():
    """GPT-2's way to write a byte as a printable character, in the order of CLIP's vocabulary."""
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def vocabulary(merges):
    with open(merges, encoding="utf-8") as f:
        lines = [line.rstrip("\n") for line in f if not line.startswith("#version")]
    symbols = byte_symbols()
    pieces = symbols + [s + "</w>" for s in symbols] + [line.replace(" ", "") for line in lines] + [BOS, EOS]
    return {piece: i for i, piece in enumerate(pieces)}


def token(content, normalized=True, **more):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False,
            **more}


def make_directory(path, style, merges):
    """A model directory with nothing but a tokenizer."""
    from transformers import CLIPTokenizer
    where = os.path.join(path, "tokenizer")
    os.makedirs(where)

    def write(name, value):
        with open(os.path.join(where, name), "w", encoding="utf-8") as f:
            json.dump(value, f)
    with open(merges, "rb") as f, open(os.path.join(where, "merges.txt"), "wb") as g:
        g.write(f.read())
    write("vocab.json", vocabulary(merges))
    objects = {key: {**token(text), "__type": "AddedToken"} for key, text in
               (("bos_token", BOS), ("eos_token", EOS), ("unk_token", EOS))}
    config = {"model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True, "pad_token": EOS,
              **objects}
    names = {"bos_token": token(BOS), "eos_token": token(EOS), "unk_token": token(EOS),
             "pad_token": EOS if style == "sd1" else "!"}
    if style == "xl2":
        config.update(bos_token=BOS, eos_token=EOS, unk_token=EOS, pad_token="!", added_tokens_decoder={
            "0": token("!", False, special=True), "49406": token(BOS, special=True), "49407": token(EOS, special=True)})
    write("tokenizer_config.json", config)
    write("special_tokens_map.json", names)
    if style == "json":
        tokenizer = CLIPTokenizer.from_pretrained(where)
        for name in os.listdir(where):
            os.remove(os.path.join(where, name))
        tokenizer.save_pretrained(where)
    return where


class Oracle:
    def __init__(self, style, merges):
        from transformers import CLIPTokenizer, logging
        logging.set_verbosity_error()
        self.home = tempfile.TemporaryDirectory()
        self.model = os.path.join(self.home.name, "model")
        self.where = make_directory(self.model, style, merges)
        self.tokenizer = CLIPTokenizer.from_pretrained(self.where)

    def ids(self, strings, padded=True):
        out = []
        for at in range(0, len(strings), 4096):
            some = strings[at:at + 4096]
            if padded:
                out += self.tokenizer(some, padding="max_length", max_length=LENGTH, truncation=True).input_ids
            else:
                out += self.tokenizer(some, verbose=False).input_ids
        return out


# ------------------------------------------------------------------------------------------------- corpus

WORDS = """a an the photo painting of in on with and cat dog red blue house tree river mountain portrait woman man child
robot castle dragon sunset highly detailed trending artstation 4k 8k hdr octane render cinematic lighting
masterpiece best quality unreal engine bokeh watercolour oil canvas futuristic steampunk cyberpunk isometric
low-poly concept art studio ghibli van gogh monet photorealistic ultra wide-angle macro lens f/1.8 ISO100 35mm
background foreground apple banana strawberry teapot bicycle astronaut riding horse moon mars forest snow rain
storm ocean waves beach city street night neon lights""".split()
PHRASES = """une photo d'un chat noir à l'été, déjà vu, ŒUVRE
ein Foto von einer großen Katze, ÜBERGRÖSSE, STRASSE
una foto de un niño y un pingüino
uma fotografia de um coração
zdjęcie żółtego kota w łódce
fotografie kočky, příliš žluťoučký kůň
egy fénykép egy űrhajósról, őszi tűz
bir kedinin fotoğrafı, İSTANBUL, ışık, ığdır, IĞDIR
ljósmynd af ketti, ÞÓRR, ðæl
một bức ảnh của con mèo, phở, Đường
фотография кота в шляпе, ЁЛКА, Й, й
фотографія кота, Їжак, ґава
фотография на котка
φωτογραφία μιας γάτας, ΣΊΣΥΦΟΣ, ΑΣ ΟΔΟΣ
գեղեցիկ կատու, ԵՐԵՎԱՆ, և
კატის ფოტო, ᲗᲑᲘᲚᲘᲡᲘ, ႠႡႢ
תמונה של חתול, שָׁלוֹם
صورة قطة، القِطُّ ٱلْأَسْوَدُ ١٢٣
عکس یک گربه ۱۲۳ می‌خواهم
ایک بلی کی تصویر
एक बिल्ली की तस्वीर, क़ख़ग़ १२३, हिन्दी
একটি বিড়ালের ছবি, ১২৩ ড়ঢ়য়
ਇੱਕ ਬਿੱਲੀ ਦੀ ਤਸਵੀਰ
બિલાડીનો ફોટો
ஒரு பூனையின் புகைப்படம், கொ கோ கௌ
ఒక పిల్లి యొక్క ఫోటో
ಬೆಕ್ಕಿನ ಫೋಟೋ ೧೨೩
ഒരു പൂച്ചയുടെ ഫോട്ടോ
පූසෙකුගේ ඡායාරූපයක්
รูปถ่ายของแมว ๑๒๓ น้ำ
ຮູບແມວ ໑໒໓
ကြောင်ဓာတ်ပုံ ၁၂၃
រូបថតឆ្មា ១២៣
ཞི་མིའི་པར་རིས
муурын зураг ᠮᠣᠩᠭᠣᠯ
የድመት ፎቶ ፩፪፫
一只猫的照片，高清，４Ｋ
一隻貓的照片「龍」
猫の写真、ネコ、ﾈｺ、パンダ、がぎぐげご
고양이 사진, 한글, 각힣
ᏣᎳᎩ ᏪᏌ ꭰꭱ
ᐃᓄᒃᑎᑐᑦ
𐐀𐐁 𐐨𐐩 𞤀𞤁 𞤢
𝕳𝖊𝖑𝖑𝖔 𝟘𝟙𝟚 ℌ ℵ
ﬁne ﬂow oﬃce ſtraße
Ⅷ ⅷ ½ ² ① ㊷ 〇 Ⓐⓐ
ǅ ǈ ǋ ǲ Ǆ
ẞ ß K Å Ω ﷺ
naïve café résumé
e\u0301 E\u0301 u\u0308\u0301 \u1e69 s\u0323\u0307 s\u0307\u0323""".split("\n")
SCRIPTS = [
    (0x41, 0x7A), (0xC0, 0x24F), (0x250, 0x2AF), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F), (0x591, 0x5F4),
    (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7B1), (0x7C0, 0x7FF), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xA7F),
    (0xA80, 0xAFF), (0xB00, 0xB7F), (0xB80, 0xBFF), (0xC00, 0xC7F), (0xC80, 0xCFF), (0xD00, 0xD7F), (0xD80, 0xDFF),
    (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF),
    (0x1200, 0x139F), (0x13A0, 0x13FF), (0x1400, 0x167F), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1B00, 0x1B7F),
    (0x1C80, 0x1CBF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2C00, 0x2C5F), (0x2D00, 0x2D7F), (0x3040, 0x30FF),
    (0x3130, 0x318F), (0x4E00, 0x9FFF), (0xA640, 0xA69F), (0xA720, 0xA7FF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF),
    (0xFE70, 0xFEFF), (0xFF00, 0xFFEF), (0x10400, 0x1044F), (0x104B0, 0x104FF), (0x10570, 0x105BF),
    (0x105C0, 0x105FF), (0x10C80, 0x10CFF), (0x10D40, 0x10D8F), (0x11080, 0x110CF), (0x11300, 0x113FF),
    (0x11480, 0x114DF), (0x11930, 0x1193F), (0x16100, 0x1613F), (0x16D40, 0x16D7F), (0x16E40, 0x16EDF),
    (0x1D100, 0x1D1FF), (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x20000, 0x2A6DF), (0x2EBF0, 0x2F81F)]
EMOJI = list("😀😂🥰🐱🐶🦄🍎🌈🔥✨🎨🏠🚀🌙⭐❤☀☂✈") + [
    "👨‍👩‍👧‍👦", "👩🏽‍🚀", "🏳️‍🌈", "🏴‍☠️", "👍🏿", "🤦🏼‍♂️", "🇩🇪", "🇯🇵🇺🇸", "1️⃣", "#️⃣", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "❤️‍🔥", "🫶🏻", "👁️‍🗨️",
    "☺︎", "☺️"]
MARKS = [c for c in ALL if unicodedata.combining(chr(c))]
COMPOSITE = [chr(c) for c in ALL if unicodedata.normalize("NFD", chr(c)) != chr(c)]
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~…—–«»“”‘’¿¡·•™®©§¶°€£¥"
SPACES = " \t\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u2009"
SPACES += "\u200a\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
CONTRACTIONS = [
    "it's", "IT'S", "don't", "we're", "I've", "i'm", "they'll", "he'd", "''s", "'S", "o'clock", "'tis", "x'sy",
    "!'s", "'", "''", "'re're", "' s", "’s", "it’s", "'ſ", "'Re", "a'lla", "1's", "é's", "'d'd", "'l", "'v", "'r"]
SPECIAL = [
    BOS, EOS, BOS.upper(), EOS.upper(), "<|StartOfText|>", "<|endoftext", "|endoftext|>", "<|pad|>", "<|" + EOS,
    EOS + "|>", "!" + BOS, EOS + EOS, "<|startoftext|>!!", "<|ENDOFTEXT|>!!", "x<|ENDOFTEXT|>'s", "<|end\u200boftext|>",
    "<|ſtartoftext|>", "[PAD]", "</w>", "a</w>", "Ġ", "<|endo\u0301ftext|>"]
NUMBERS = [
    "0", "7", "42", "1920x1080", "3.14159", "1,000,000", "1e-6", "½", "²³", "Ⅳ", "٣", "१२", "①②", "𝟗", "𐄇", "1st",
    "2nd", "90s", "4K", "H2O", "00:59", "50%"]


def caption(r):
    words = [r.choice(WORDS) for _ in range(r.randint(1, 30))]
    style = r.random()
    text = r.choice([" ", " ", ", ", "  "]).join(words)
    return text.upper() if style < 0.05 else text.title() if style < 0.15 else text


def phrase(r):
    text = " ".join(r.sample(PHRASES, r.randint(1, 3)))
    pick = r.random()
    if pick < 0.2:
        return text.upper()
    if pick < 0.5:
        return unicodedata.normalize(r.choice(["NFC", "NFD", "NFKC", "NFKD"]), text)
    return text


def script_words(r):
    lo, hi = r.choice(SCRIPTS)
    return " ".join("".join(chr(r.randint(lo, hi)) for _ in range(r.randint(1, 9))) for _ in range(r.randint(1, 8)))


def emoji(r):
    after = ["", "", "\ufe0f", "🏽", "\u200d", "\ufe0e"]
    return r.choice(["", " ", "a"]).join(r.choice(EMOJI) + r.choice(after) for _ in range(r.randint(1, 12)))


def marks(r):
    out = ""
    for _ in range(r.randint(1, 12)):
        base = r.choice(["a", "E", "o", " ", "x", "क", "가", "ᄀ", "か", "α", "1", "!", "", "\u1161", "\u0dd9", "<"])
        out += r.choice(COMPOSITE) if r.random() < 0.3 else base
        out += "".join(chr(r.choice(MARKS)) for _ in range(r.randint(0, 5)))
    return out


def decomposed(r):
    text = "".join(r.choice(COMPOSITE) for _ in range(r.randint(1, 10)))
    return unicodedata.normalize("NFD", text) if r.random() < 0.7 else text


def controls(r):
    def one():
        return r.choice([chr(r.randint(1, 31)), chr(r.randint(127, 160)), r.choice(WORDS), *r.choices(SPACES, k=2)])
    return "".join(one() for _ in range(r.randint(1, 20)))


def random_utf8(r):
    if r.random() < 0.5:   # every plane alike
        return "".join(chr(r.choice(ALL)) for _ in range(r.randint(1, 24)))
    ranges = [(1, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0x10000, 0x1FFFF)]
    return "".join(chr(r.randint(*r.choice(ranges))) for _ in range(r.randint(1, 24)))


def long_word(r):
    n = r.choice([80, 200, 500, 2000])
    pick = r.randint(0, 4)
    if pick == 0:
        return r.choice("aeiouxyzlmé中") * n
    if pick == 1:
        return "".join(chr(r.randint(97, 122)) for _ in range(n))
    if pick == 2:
        return "".join(r.choice(WORDS) for _ in range(n // 5))
    if pick == 3:
        return "".join(r.choice("!?.-_=*#~") for _ in range(n))
    return "".join(chr(r.randint(0x4E00, 0x9FFF)) for _ in range(n // 3))


def contractions(r):
    return r.choice([" ", "", "  "]).join(r.choice(CONTRACTIONS + WORDS) for _ in range(r.randint(1, 10)))


def numbers(r):
    some = NUMBERS + [str(r.randint(0, 10 ** r.randint(1, 20))) for _ in range(8)]
    return r.choice([" ", "", "x"]).join(r.choice(some) for _ in range(r.randint(1, 10)))


def special(r):
    some = SPECIAL + WORDS[:8] + ["!", "!!", "?"]
    return r.choice([" ", "", ""]).join(r.choice(some) for _ in range(r.randint(1, 8)))


def punctuation(r):
    return "".join(r.choice([r.choice(WORDS), *r.choices(PUNCTUATION, k=2), " "]) for _ in range(r.randint(1, 40)))


def mixed(r):
    return r.choice(["", " "]).join(r.choice(KINDS[:-1])(r)[:20] for _ in range(r.randint(2, 5)))


KINDS = [caption, phrase, script_words, emoji, marks, decomposed, controls, random_utf8, long_word, contractions,
         numbers, special, punctuation, mixed]
SHARE = [16, 8, 14, 5, 10, 6, 6, 14, 1, 5, 4, 6, 6, 6]
FIXED = ["", " ", "!", "a", "\t \t", "<|endoftext|>", "가\u11a7 가\u11a8 각\u11a8"]
FIXED += PHRASES + CONTRACTIONS + SPECIAL + NUMBERS + EMOJI
SECOND = sorted({x for c in COMPOSITE for x in unicodedata.normalize("NFD", c)[1:]} | set(map(chr, MARKS)) |
                set(map(chr, [*range(0x1100, 0x1200), *range(0xA960, 0xA97D), *range(0xD7B0, 0xD7FC)])))


def corpus(count, seed):
    r = random.Random(seed)
    pairs = ["0".join(first + x for x in SECOND[i:i + 8]) for first in "aΑक가각ᄀ" for i in range(0, len(SECOND), 8)]
    lines = FIXED + pairs + COMPOSITE + [unicodedata.normalize("NFD", c) for c in COMPOSITE]
    lines = lines[:count] + [kind(r) for kind in r.choices(KINDS, SHARE, k=max(0, count - len(lines)))]
    return [line.replace("\n", " ").replace("\0", " ") for line in lines]


def write_corpus(prefix, lines, ids):
    with open(prefix + ".txt", "w", encoding="utf-8", newline="") as f:
        f.write("".join(line + "\n" for line in lines))
    for style, rows in ids.items():
        with open(f"{prefix}.{style}.ids", "w", encoding="ascii") as f:
            f.write("".join(" ".join(map(str, row)) + "\n" for row in rows))


def check(command, lines, styles, merges):
    """Runs the program once for each style; True if no line differs."""
    good = True
    for style in styles:
        oracle = Oracle(style, merges)
        file = os.path.join(oracle.home.name, "corpus.txt")
        with open(file, "w", encoding="utf-8", newline="") as f:
            f.write("".join(line + "\n" for line in lines))
        line = command if "{file}" in command else command + " tokenize -m {model} --ids --file {file}"
        done = subprocess.run([x.format(model=oracle.model, tokenizer=oracle.where, file=file) for x in line.split()],
                              stdout=subprocess.PIPE, check=False)
        got = [row.split() for row in done.stdout.decode("ascii", "replace").split("\n")[:-1]]
        want = oracle.ids(lines)
        bad = [i for i in range(min(len(got), len(want))) if got[i] != [str(x) for x in want[i]]]
        for i in bad[:5]:
            print(f"{style}, line {i + 1}: {lines[i]!r}\n  want {want[i]}\n  got  {' '.join(got[i])}")
        print(f"{style}: {len(lines)} strings, {len(bad)} differ"
              + (f", exit code {done.returncode}" if done.returncode else "")
              + (f", {len(got)} lines came back" if len(got) != len(want) else ""))
        good = good and not bad and not done.returncode and len(got) == len(want)
    return good


# ------------------------------------------------------------------------------------------------ goldens

def escape(text):
    """Printable ASCII but the backslash as it is, any other byte as \\xHH."""
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in text.encode("utf-8"))


def golden(file, merges, seed):
    """A line a string: style (`both` is sd1 and sd2), pieces that did not fit, the ids from BOS to EOS, the string."""
    r = random.Random(seed)
    lines = list(dict.fromkeys(FIXED + [kind(r) for kind in KINDS if kind is not long_word for _ in range(16)] + [
        "a" * 400, "ab" * 150, "é" * 120, "cat " * 75, "cat " * 74, "cat " * 76,
        "supercalifragilistic" * 12, "!" * 200]))
    lines = [line.replace("\n", " ") for line in lines if len(line) < 420]
    oracles = {style: Oracle(style, merges) for style in ("sd1", "sd2")}
    ids = {style: oracle.ids(lines, padded=False) for style, oracle in oracles.items()}
    import transformers
    with open(file, "w", encoding="ascii") as f:
        f.write(f"# ids of transformers {transformers.__version__}; made by tools/tokenizer_corpus.py --golden\n"
                "# style, pieces dropped, ids from BOS to EOS, string (bytes that are not printable ASCII as \\xHH)\n")
        for i, line in enumerate(lines):
            same = ids["sd1"][i] == ids["sd2"][i]
            for style in ("sd1", "sd2")[:1 if same else 2]:
                row = ids[style][i]
                kept = row if len(row) <= LENGTH else row[:LENGTH - 1] + row[-1:]
                f.write("\t".join(["both" if same else style, str(len(row) - len(kept)), " ".join(map(str, kept)),
                                   escape(line)]) + "\n")
    print(f"{file}: {len(lines)} strings, {os.path.getsize(file)} bytes")


def sweep_text(c):
    """Shows the class of a character, its lower case, what it is composed with, and its order among marks."""
    return f"A{chr(c)}\u0323 1e\u0345{chr(c)}b"


def sweep(file, merges):
    oracle = Oracle("sd1", merges)
    with open(file, "w", encoding="ascii") as f:
        f.write("# FNV-1a of the ids of every code point's sweep text, 4096 code points a line; "
                "made by tools/tokenizer_corpus.py --sweep\n")
        for begin in range(0, 0x110000, 4096):
            block = [sweep_text(c) for c in range(begin, begin + 4096) if c and not 0xD800 <= c < 0xE000]
            h = 0xCBF29CE484222325
            for row in oracle.ids(block, padded=False) if block else []:
                for x in row:
                    h = (h ^ x) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
            f.write(f"{h:016x}\n")


# ------------------------------------------------------------------------------------- tables of unicode.c

def oracle_facts():
    """What the backend says of each code point: class, lower case, NFD, NFC, and whether it is ordered as a mark."""
    from tokenizers import Regex, normalizers, pre_tokenizers
    patterns = {"L": r"[\p{L}]", "N": r"[\p{N}]", "S": r"\s", "O": r"[^\s\p{L}\p{N}]"}
    split = {k: pre_tokenizers.Split(Regex(p), "removed", invert=True) for k, p in patterns.items()}
    lower, nfd, nfc = normalizers.Lowercase(), normalizers.NFD(), normalizers.NFC()
    for c in ALL:
        x = chr(c)
        kind = "".join(k for k, s in split.items() if s.pre_tokenize_str(x))
        assert len(kind) == 1, hex(c)
        mark = (nfd.normalize_str("a" + x + "\u0334") == "a\u0334" + x != "a" + x + "\u0334" or
                nfd.normalize_str("a\u0345" + x) == "a" + x + "\u0345" != "a\u0345" + x)
        yield c, kind, lower.normalize_str(x), nfd.normalize_str(x) == x == nfc.normalize_str(x), mark


def utf8proc_facts():
    lib = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
    lib.utf8proc_category_string.restype = ctypes.c_char_p
    lib.utf8proc_unicode_version.restype = ctypes.c_char_p
    part = (ctypes.c_int32 * 64)()
    stable_decompose = 1 << 1 | 1 << 4

    def facts(c):
        n = lib.utf8proc_decompose_char(c, part, 64, stable_decompose, ctypes.byref(ctypes.c_int()))
        return lib.utf8proc_category_string(c).decode(), list(part[:n]), lib.utf8proc_tolower(c)
    return lib.utf8proc_unicode_version().decode(), facts


def tables():
    import unicodedata2   # the newest Unicode, so that a newer utf8proc than today's gives the same ids
    version, utf8proc = utf8proc_facts()
    print(f"# utf8proc {version}, unicodedata {unicodedata.unidata_version}, "
          f"unicodedata2 {unicodedata2.unidata_version}", file=sys.stderr)
    rows = {}
    # Parts of composites that the oracle does not know; and a jamo that is no final consonant (Unicode 3.12: TBase itself),
    # yet utf8proc 2.8 joins it to a Hangul syllable.
    parts = {0x11A7}
    for c, kind, lower, stable, mark in oracle_facts():
        x = chr(c)
        category, decomposed_c, lower_c = utf8proc(c)
        classes = {"S" if kind == "S" else g[0] if g[0] in "LN" else "O" for g in
                   (category, unicodedata.category(x), unicodedata2.category(x))}
        differs = classes != {kind} or (c != 0x130 and lower != chr(lower_c))
        if stable and not mark:
            newest = unicodedata2.normalize("NFD", x)
            differs = (differs or decomposed_c != [c] or newest != x or unicodedata2.combining(x) or
                       unicodedata.combining(x))
            if newest != x:
                parts.update(map(ord, newest))
            rows[c] = (bool(differs), kind, ord(lower) - c if len(lower) == 1 else 0)
        else:
            assert not differs, hex(c)
    runs = []
    for c, (differs, kind, delta) in rows.items():
        if not (differs or c in parts):
            continue
        if runs and runs[-1][1] == c - 1 and runs[-1][2:] == [kind, delta]:
            runs[-1][1] = c
        else:
            runs.append([c, c, kind, delta])
    cells = [f"{{0x{a:05x}, 0x{b:05x}, '{kind}', {delta}}}," for a, b, kind, delta in runs]
    for at in range(0, len(cells), 4):
        print("    " + " ".join(cells[at:at + 4]))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--make", metavar="PREFIX")
    p.add_argument("--check", metavar="PROGRAM")
    p.add_argument("--golden", metavar="FILE")
    p.add_argument("--sweep", metavar="FILE")
    p.add_argument("--tables", action="store_true")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=200000)
    p.add_argument("--styles", default="sd1,sd2", help="of sd1, sd2, xl2, json")
    p.add_argument("--merges", default="weights/merges.txt")
    a = p.parse_args()
    styles = a.styles.split(",")
    if a.tables:
        tables()
    if a.golden:
        golden(a.golden, a.merges, a.seed)
    if a.sweep:
        sweep(a.sweep, a.merges)
    if a.make:
        lines = corpus(a.count, a.seed)
        write_corpus(a.make, lines, {style: Oracle(style, a.merges).ids(lines) for style in styles})
    if a.check and not check(a.check, corpus(a.count, a.seed), styles, a.merges):
        sys.exit(1)


if __name__ == "__main__":
    main()
