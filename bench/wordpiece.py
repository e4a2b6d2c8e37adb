"""Text as the token ids that MiniLM takes: lower-cased, split at spaces and punctuation, each word into the longest known pieces."""

import json
import re
import unicodedata

UNKNOWN, START, END, PADDING = 100, 101, 102, 0
WORD_START = "\u2581"  # how the vocabulary marks a piece that begins a word


def vocabulary(assets):
    words = json.loads((assets / "bert-vocabulary" / "vocab.json").read_text())
    return {word: id for id, word in enumerate(words)}


def pieces(word, vocabulary):
    """The longest known pieces, from left to right; [UNK] where one is not known."""
    ids, start = [], 0
    while start < len(word):
        mark = WORD_START if start == 0 else ""
        for end in range(len(word), start, -1):
            if (id := vocabulary.get(mark + word[start:end])) is not None:
                ids.append(id)
                start = end
                break
        else:
            return [UNKNOWN]
    return ids


def tokens(text, vocabulary, length):
    """[CLS], the pieces of the words, [SEP]: `length` ids at most, the rest of a longer text left out."""
    plain = unicodedata.normalize("NFD", re.sub(r"<[^>]*>", " ", text).lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    ids = [START]
    for word in re.findall(r"\w+|[^\w\s]", plain):
        ids += pieces(word, vocabulary)
        if len(ids) >= length - 1:
            break
    return ids[: length - 1] + [END]
