"""Writes testdata/tokenizers: tiny tokenizers of every style with the ids that transformers gives, and chat renderings.

Run from the repository root: python bench/golden/make_tokenizers.py [path/to/SmolLM2-135M-Instruct.Q4_1.gguf]
Needs transformers, tokenizers, jinja2 (versions are written into each golden file). Deterministic but for library versions.
"""

import json
import os
import sys

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = os.path.join("testdata", "tokenizers")

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's a fine day, isn't it? They're happy and we'll see you're there.",
    "In 1704 Isaac Newton published Opticks, a treatise of the reflections, refractions, inflections and colours of light.",
    "def main():\n    for i in range(10):\n        print(i)\n\n\treturn 42\n",
    "Größe, naïve café, señor, Łódź, Привет мир, γειά σου, 你好世界, こんにちは, مرحبا, नमस्ते",
    "emoji 😀 👍🏽 🇩🇪 family 👨‍👩‍👧 and symbols € § ± ∑ √",
    "Numbers 0 1 23 456 7890 12345678901234567890 3.14159 1,000,000 Ⅷ ½ ²",
    "the the the of of and and to to in in a a is is that that it it was was for for on on are are as as with with",
] * 4

TEXTS = [
    "", " ", "  ", "   a", "a   ", "\n", "\n\n", " \n \n  x", "a\n\n\nb", "\t\tx\t y", "\r\n\r\nend\r\n",
    "Hello world", " Hello  world ", "Hello   world\n\n  again\t!", "It's they'll I'VE You'Re can'T don't 'S 'quoted' ''s",
    "The quick brown fox jumps over the lazy dog.", "12345 3.14 1,000,000 v2.0 a1b22c333d4444", "Ⅷ ½ ² ① 一二三 ٣٤",
    "naïve café Größe Łódź", "e\u0301 cafe\u0301 \u212b \ufb01", "Привет, мир! γειά σου", "你好世界。こんにちは", "مرحبا بالعالم नमस्ते",
    "😀 👍🏽 🇩🇪 👨‍👩‍👧 ok", "a\u00a0b\u2003c\u3000d\u2028e\u0085f", "\u200bzero\ufeffwidth\u200d", "x\u0000y\u0001z\u007f",
    "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n", "<s>text</s>", "a<|im_end|>b <|im_end|> c", "<|im_end", "<mask> a <mask>b",
    "!!! ??? ... --- ==> {}[]()<>|&^%$#@", "https://example.org/path?q=1&r=a%20b#frag", "snake_case CamelCase kebab-case ALLCAPS",
    "    if x:\n        return y  # comment\n", "word" * 30, "a" * 100, "  \t \n  \t ", "''''", "' s 's", " 's", "\u017f '\u017f", "1\n2\n 3\n  4",
    "the of and to in a is that it was for on are as with", "▁under▁bar", "<0x41> <unk> [UNK]", "mixed 漢字kanjiかな123ABC",
]


def bytes_bpe(pre, normalizer=None, ignore_merges=False, special=(), post=None, initial=True):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=560, special_tokens=list(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if initial else []))
    if post:
        tok.post_processor = post(tok)
    return tok


def bos_template(token):
    return lambda tok: processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, tok.token_to_id(token))])])


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")


def split_bytes(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama2(pre=None, normalizer=None, decoder=None):
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    base = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    base.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    base.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # training only: words
    base.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=620, special_tokens=pieces, show_progress=False, limit_alphabet=70))
    raw = json.loads(base.to_str())
    raw["pre_tokenizer"] = None
    raw["added_tokens"] = [a for a in raw["added_tokens"] if a["id"] < 3]
    tok = Tokenizer.from_str(json.dumps(raw))
    if pre:
        tok.normalizer, tok.pre_tokenizer = normalizer, pre
    tok.decoder = decoder or decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tok


def unigram(byte_fallback):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.NFKC()
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if byte_fallback else [])
    tok.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=300 + len(special), special_tokens=special, unk_token="<unk>", show_progress=False))
    raw = json.loads(tok.to_str())
    raw["added_tokens"] = [a for a in raw["added_tokens"] if a["id"] < 3]
    raw["model"]["byte_fallback"] = byte_fallback
    if byte_fallback:
        raw["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, raw["decoder"]]}
    return Tokenizer.from_str(json.dumps(raw))


def wordpiece():
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    tok.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tok


def tokens_with_flags():
    tok = bytes_bpe(pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=True)]),
                    special=["<|endoftext|>"])
    tok.add_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False), AddedToken("the", single_word=True, normalized=True),
                    AddedToken("  ", normalized=True)])
    return tok


BL = pre_tokenizers.ByteLevel
CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
STYLES = {
    "gpt2": (lambda: bytes_bpe(BL(add_prefix_space=False), special=["<|endoftext|>"]),
             dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")),
    "llama3": (lambda: bytes_bpe(split_bytes(LLAMA3), ignore_merges=True, special=["<|begin_of_text|>", "<|im_end|>"], post=bos_template("<|begin_of_text|>")),
               dict(bos_token="<|begin_of_text|>", eos_token="<|im_end|>")),
    "qwen2": (lambda: bytes_bpe(split_bytes(QWEN2), normalizer=normalizers.NFC(), special=CHAT),
              dict(eos_token="<|im_end|>", pad_token="<|endoftext|>", add_bos_token=False)),
    "smollm2": (lambda: bytes_bpe(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BL(add_prefix_space=False)]), special=CHAT),
                dict(bos_token={"__type": "AddedToken", "content": "<|im_start|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
                     eos_token="<|im_end|>", pad_token="<|im_end|>")),
    "llama2": (llama2, dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")),
    "mistral": (lambda: llama2(pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False), normalizers.Sequence([]),
                               decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", prepend_scheme="first")])),
                dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True, add_eos_token=True)),
    "unigram": (lambda: unigram(False), dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")),
    "unigram-bytes": (lambda: unigram(True), dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")),
    "wordpiece": (wordpiece, dict(unk_token="[UNK]")),
    "flags": (tokens_with_flags, dict(eos_token="<|endoftext|>")),
}


def write(path, value, **kw):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, **kw)
        f.write("\n")


def style(name):
    make, config = STYLES[name]
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    raw = json.loads(make().to_str())
    write(os.path.join(folder, "tokenizer.json"), raw, ensure_ascii=False, separators=(",", ":"))
    write(os.path.join(folder, "tokenizer_config.json"), dict(config, tokenizer_class="PreTrainedTokenizerFast"), indent=1)
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    cases = []
    for text in TEXTS:
        plain = auto(text, add_special_tokens=False).input_ids
        cases.append({"text": text, "ids": plain, "special": auto(text).input_ids,
                      "decoded": auto.decode(plain, clean_up_tokenization_spaces=False)})
    write(os.path.join(folder, "expected.json"), {
        "made_by": f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}",
        "bos": auto.bos_token_id, "eos": auto.eos_token_id, "pad": auto.pad_token_id, "size": len(auto), "cases": cases},
        ensure_ascii=True, separators=(",", ":"))


if __name__ == "__main__":
    for name in STYLES:
        style(name)
        print("wrote", name)
