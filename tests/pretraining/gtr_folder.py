"""A sentence model with random weights in the folder layout of gtr-t5-large, a few kB large."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import T5Config, T5EncoderModel

WIDTH, DIMENSION = 16, 12
_WORDS = ["brain", "MRI", "T1-weighted", "T2-weighted", "FLAIR", "3", "T", "1.5", "TR", "TE", "ms"]
_CLASSES = "sentence_transformers.models."


def write_gtr_folder(folder: Path) -> Path:
    """Write a T5 encoder, mean pooling, a dense layer without bias, and a normalisation.

    Source: the files of sentence-transformers/gtr-t5-large on the hub: modules.json with four
    modules, 1_Pooling, 2_Dense with a linear layer without activation; 3_Normalize has no file, so
    a copy from the hub has no such folder.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _write_encoder(folder)
        dense = torch.randn(DIMENSION, WIDTH)
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense"}
    paths["Normalize"] = "3_Normalize"
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": _CLASSES + name}
        for index, (name, path) in enumerate(paths.items())
    ]
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": 512})
    modes = ("cls_token", "max_tokens", "mean_sqrt_len_tokens")
    pooling = {f"pooling_mode_{mode}": False for mode in modes}
    _write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True, **pooling},
    )
    _write_json(
        folder / "2_Dense" / "config.json",
        {
            "in_features": WIDTH,
            "out_features": DIMENSION,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    save_file({"linear.weight": dense}, folder / "2_Dense" / "model.safetensors")
    return folder


def _write_encoder(folder: Path) -> None:
    vocabulary = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    vocabulary += [("\u2581" + word, -1.0) for word in _WORDS]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    config = T5Config(
        vocab_size=len(vocabulary), d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    T5EncoderModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "T5Tokenizer",
            **{"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
            "model_max_length": 512,
        },
    )


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
