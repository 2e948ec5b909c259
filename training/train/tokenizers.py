"""Small vocabularies in the real tokenizer classes: CLIP's byte-level BPE, T5's unigram model.

Both are trained on the world's own texts, so that each word of the world is one token; other
words fall apart into bytes (CLIP) or become characters and <unk> (T5).
"""

from __future__ import annotations

import json
import string
from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5TokenizerFast

from training.world.captions import Meaning, Text, scene_caption
from training.world.edits import sample_instruction_task
from training.world.inpaint import sample_inpaint_task
from training.world.palette import COLOURS, SHAPES
from training.world.scene import sample_scene

MAX_TOKENS = 32
"""Length to which both tokenizers pad: every text of the world is shorter."""


def sample_text(rng: np.random.Generator) -> Text:
    """A text of the world, of any kind, as people write it."""
    chance = rng.random()
    if chance < 0.35:
        text = sample_inpaint_task(rng, size=32).text
    elif chance < 0.8:
        text = sample_instruction_task(rng).text
    elif chance < 0.9:
        text = scene_caption(rng, sample_scene(rng))
    else:
        text = _keyword(rng)
    return replace(text, words=dressed(rng, text.words))


def dressed(rng: np.random.Generator, words: str) -> str:
    """The words, now and then with a capital letter or a full stop."""
    if rng.random() < 0.15:
        words = words[0].upper() + words[1:]
    return words + "." if rng.random() < 0.1 else words


def _keyword(rng: np.random.Generator) -> Text:
    """One word, as in negative prompts."""
    if rng.random() < 0.5:
        colour = str(rng.choice(list(COLOURS)))
        return Text(colour, Meaning("draw", colour=colour))
    shape = str(rng.choice(list(SHAPES)))
    return Text(shape, Meaning("draw", shape=shape))


def corpus(seed: int, count: int = 3000) -> list[str]:
    """Texts to train the vocabularies on."""
    return [sample_text(np.random.default_rng([seed, 2, i])).words for i in range(count)]


def build_clip_tokenizer(texts: list[str]) -> CLIPTokenizer:
    """Byte-level BPE with '</w>' word ends, start and end tokens, padded with the end token."""
    plain = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    plain.train_from_iterator(texts, trainer)
    merges = _merges(plain)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [first + second for first, second in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def build_t5_tokenizer(texts: list[str]) -> T5TokenizerFast:
    """A unigram vocabulary of the world's words and of single characters."""
    words = {word.strip(",.").lower() for text in texts for word in text.split()}
    words |= {word.capitalize() for word in words}
    singles = [*string.ascii_letters, *string.digits, *",.!?'-"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -8.0)]
    pieces += [(f"▁{word}", -4.0) for word in sorted(words)]
    pieces += [(letter, -10.0) for letter in singles]
    return T5TokenizerFast(
        vocab=pieces,
        unk_token="<unk>",
        extra_ids=0,
        model_max_length=MAX_TOKENS,
    )
