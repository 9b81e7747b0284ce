"""Descriptions become vectors: the library assembles the model, and each text is embedded once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, T5EncoderModel

from nnunet_triad.demo.steps import sentence_model
from nnunet_triad.errors import UserError
from pretraining import embed_cli, text_embeddings
from pretraining.store import VolumeStore
from pretraining.text_embeddings import (
    DEFAULT_MODEL,
    VECTORS_FILE,
    EmbeddingTable,
    embed_texts,
    find_model,
    update_embeddings,
)
from tests.commands import exit_code
from tests.pretraining.conftest import DESCRIPTIONS, write_store
from tests.pretraining.gtr_folder import DIMENSION, write_gtr_folder

TEXTS = ["brain MRI T1-weighted 3 T", "FLAIR TR 3 ms", "MRI"]


@pytest.fixture(scope="module")
def gtr_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gtr_folder(tmp_path_factory.mktemp("models") / "gtr")


@pytest.fixture
def count_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were really embedded, in their order."""
    embedded: list[str] = []

    def embed(model, texts, **options):
        embedded.extend(texts)
        return embed_texts(model, texts, **options)

    monkeypatch.setattr(text_embeddings, "embed_texts", embed)
    return embedded


def test_default_model_is_gtr_t5_large():
    assert DEFAULT_MODEL == "sentence-transformers/gtr-t5-large"


def test_gtr_is_a_t5_encoder_mean_pooling_a_dense_layer_and_a_normalisation(gtr_folder):
    found = embed_texts(find_model(str(gtr_folder)), TEXTS)

    tokenizer = AutoTokenizer.from_pretrained(gtr_folder)
    encoder = T5EncoderModel.from_pretrained(gtr_folder).eval()
    dense = load_file(gtr_folder / "2_Dense" / "model.safetensors")["linear.weight"]
    for text, vector in zip(TEXTS, found, strict=True):  # one by one: no padding
        with torch.no_grad():
            states = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = dense @ states.mean(0)
        np.testing.assert_allclose(vector, expected / expected.norm(), rtol=1e-4, atol=1e-6)


def test_small_sentence_model_embeds_like_texts_alike():
    texts = [
        "T1-weighted MRI, 3 T, Siemens, TR 2300 ms",
        "T1-weighted MRI, 3 T, Siemens, TR 2200 ms",
        "Diffusion-weighted MRI, 1.5 T, GE, TR 8000 ms",
    ]

    first, second, other = embed_texts(find_model(str(sentence_model())), texts)

    assert first.shape == (384,)
    assert 0 < np.linalg.norm(first - second) < 0.5 * np.linalg.norm(first - other)


def test_update_embeds_each_distinct_description_once(gtr_folder, tmp_path, count_texts):
    model = find_model(str(gtr_folder))

    num_new, table = update_embeddings(tmp_path, [*TEXTS, TEXTS[0], TEXTS[2]], model)

    assert num_new == 3
    assert sorted(count_texts) == sorted(TEXTS)
    assert (len(table), table.dimension) == (3, DIMENSION)
    assert (table.model_name, table.revision) == (model.name, model.revision)


def test_update_embeds_only_what_the_table_lacks(gtr_folder, tmp_path, count_texts):
    model = find_model(str(gtr_folder))
    _, before = update_embeddings(tmp_path, TEXTS[:2], model)
    count_texts.clear()

    num_new, table = update_embeddings(tmp_path, TEXTS, model)

    assert (num_new, count_texts) == (1, [TEXTS[2]])
    for text in TEXTS[:2]:
        np.testing.assert_array_equal(table.vector(text), before.vector(text))
    assert update_embeddings(tmp_path, TEXTS, model)[0] == 0


def test_table_comes_back_to_the_bit(gtr_folder, tmp_path):
    _, table = update_embeddings(tmp_path, TEXTS, find_model(str(gtr_folder)))

    found = EmbeddingTable.open(tmp_path)

    assert found.descriptions == table.descriptions
    np.testing.assert_array_equal(found.vectors, table.vectors)
    summary = json.loads((tmp_path / "embeddings.json").read_text())
    assert summary["model_name"] == table.model_name
    assert summary["descriptions"] == list(table.descriptions)


def test_embeddings_of_another_model_are_refused_unless_overwritten(
    gtr_folder, tmp_path, count_texts
):
    update_embeddings(tmp_path, TEXTS, find_model(str(gtr_folder)))
    other = find_model(str(copy_with_other_weights(gtr_folder, tmp_path / "other")))

    with pytest.raises(UserError, match=r"expected embeddings of .*other .*pass --overwrite"):
        update_embeddings(tmp_path, TEXTS, other)
    count_texts.clear()
    _, table = update_embeddings(tmp_path, TEXTS, other, overwrite=True)

    assert sorted(count_texts) == sorted(TEXTS)
    assert table.revision == other.revision


def copy_with_other_weights(folder: Path, copy: Path) -> Path:
    copytree(folder, copy)
    dense = load_file(copy / "2_Dense" / "model.safetensors")
    save_file({"linear.weight": dense["linear.weight"] + 1}, copy / "2_Dense" / "model.safetensors")
    return copy


def test_revision_of_a_folder_is_its_content(gtr_folder, tmp_path):
    copytree(gtr_folder, tmp_path / "same")
    other = copy_with_other_weights(gtr_folder, tmp_path / "other")
    (tmp_path / "same" / "README.md").write_text("a readme changes no vector")

    revisions = [find_model(str(path)).revision for path in (gtr_folder, tmp_path / "same", other)]

    assert revisions[0] == revisions[1] != revisions[2]


def test_vector_of_an_unknown_description_raises(gtr_folder, tmp_path):
    _, table = update_embeddings(tmp_path, TEXTS, find_model(str(gtr_folder)))

    with pytest.raises(UserError, match=r"expected one that was embedded with .*, got 'PD'; run"):
        table.vector("PD")


@pytest.mark.parametrize("content", [b"", b"no safetensors file", b"\x10" + b"\0" * 40])
def test_damaged_table_is_a_clear_error(tmp_path, content):
    (tmp_path / "embeddings.safetensors").write_bytes(content)

    with pytest.raises(UserError, match=r"expected text embeddings of format version 1.*delete it"):
        EmbeddingTable.open(tmp_path)


@pytest.mark.parametrize("shape", [(3, 4), (2,)])
def test_table_whose_vectors_are_not_those_of_its_descriptions_is_a_clear_error(tmp_path, shape):
    summary = {"format_version": "1", "model_name": "a", "revision": "b"}
    metadata = {"triad": json.dumps({**summary, "descriptions": ["MRI", "PD"]})}
    save_file({"vectors": torch.zeros(shape)}, tmp_path / "embeddings.safetensors", metadata)

    with pytest.raises(UserError, match=r"cannot be read \(2 descriptions for vectors"):
        EmbeddingTable.open(tmp_path)


def test_table_of_another_version_is_a_clear_error(gtr_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(text_embeddings, "FORMAT_VERSION", "9")
    update_embeddings(tmp_path, TEXTS, find_model(str(gtr_folder)))
    monkeypatch.undo()

    with pytest.raises(UserError, match="expected text embeddings of format version 1"):
        EmbeddingTable.open(tmp_path)


def test_model_with_nan_weights_is_refused(gtr_folder, tmp_path):
    copy = copy_with_other_weights(gtr_folder, tmp_path / "nan")
    nan = torch.full((DIMENSION, 16), float("nan"))
    save_file({"linear.weight": nan}, copy / "2_Dense" / "model.safetensors")

    with pytest.raises(UserError, match="expected finite vectors, got NaN"):
        embed_texts(find_model(str(copy)), TEXTS)


@pytest.fixture
def embed(monkeypatch, capsys):
    """Run triad-embed; return its exit code and what it prints."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def embed(*arguments: object) -> tuple[int, str]:
        code = exit_code(embed_cli.main, "triad-embed", *arguments)
        return code, "".join(capsys.readouterr())

    return embed


def test_command_embeds_a_store(embed, gtr_folder, tmp_path):
    store_path = write_store(tmp_path / "store")

    code, printed = embed(store_path, "--model", gtr_folder)

    assert code == 0
    assert "embedded 3 of 3 distinct descriptions, 5 series" in printed
    assert set(EmbeddingTable.open(store_path).descriptions) == set(DESCRIPTIONS)
    assert "embedded 0 of 3" in embed(store_path, "--model", gtr_folder)[1]


def test_descriptions_of_one_s_own_replace_the_store_s(embed, gtr_folder, tmp_path):
    store_path = write_store(tmp_path / "store")
    table = pd.read_csv(store_path / "index.csv")
    table["description"] = [f"Pelvis, patient {row}" for row in range(len(table))]
    table.drop(index=0).to_csv(tmp_path / "mine.csv", index=False)
    before = VolumeStore.open(store_path).records["description"].tolist()

    code, printed = embed(
        store_path, "--model", gtr_folder, "--descriptions", tmp_path / "mine.csv"
    )

    assert code == 0, printed
    assert "replaced 4 descriptions" in printed
    found = VolumeStore.open(store_path).records["description"].tolist()
    assert found == [before[0], *table["description"][1:]]
    assert set(found) <= set(EmbeddingTable.open(store_path).descriptions)
    again = embed(store_path, "--model", gtr_folder, "--descriptions", tmp_path / "mine.csv")
    assert "replaced 0 descriptions" in again[1]


def test_descriptions_are_not_replaced_while_curation_writes(embed, gtr_folder, tmp_path):
    """It would write an index without the series that came in between."""
    store_path = write_store(tmp_path / "store", num_volumes=1)
    table = pd.read_csv(store_path / "index.csv").assign(description="Pelvis")
    table.to_csv(tmp_path / "mine.csv", index=False)
    with VolumeStore.open(store_path).only_writer():
        code, printed = embed(
            store_path, "--model", gtr_folder, "--descriptions", tmp_path / "mine.csv"
        )
    assert code == 2
    assert "another command is writing to" in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("series_id,text\na,b\n", "expected rows with the columns series_id, description"),
        ("series_id,description\n", "got the columns series_id, description and 0 rows"),
        ("series_id,description\na,\n", "line 2: expected a description, got none"),
        ("series_id,description\na,b\na,c\n", "line 3: expected each series once, got a again"),
        ("series_id,description\na,b\n", "got 1 that are not there, first a"),
    ],
)
def test_wrong_tables_of_descriptions_are_one_line(embed, gtr_folder, tmp_path, content, message):
    store_path = write_store(tmp_path / "store", num_volumes=1)
    (tmp_path / "mine.csv").write_text(content)
    code, printed = embed(
        store_path, "--model", gtr_folder, "--descriptions", tmp_path / "mine.csv"
    )
    assert code == 2
    assert message in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["STORE", "--model", "nobody/no-such-model"], "expected a folder, or a name that the hub"),
        (["STORE", "--model", "no such folder!"], "expected a folder or a hub name such as"),
        (["STORE", "--model", "STORE"], "got one without modules.json; pass the folder"),
        (["STORE", "--model", "GTR", "--revision", "main"], "--revision: expected none with"),
        (["STORE", "--model", "BROKEN"], "expected a sentence-transformers model that loads"),
        (["MODELS", "--model", "GTR"], "expected a volume store, got no store.json"),
    ],
)
def test_command_with_wrong_input_prints_one_line(embed, gtr_folder, tmp_path, arguments, message):
    broken = copy_with_other_weights(gtr_folder, tmp_path / "broken")
    (broken / "config.json").write_text("{}")
    paths = {
        "STORE": write_store(tmp_path / "store", num_volumes=1),
        "GTR": gtr_folder,
        "BROKEN": broken,
        "MODELS": gtr_folder.parent,
    }

    code, printed = embed(*(paths.get(argument, argument) for argument in arguments))

    assert code == 2
    assert message in printed
    error = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert "Traceback" not in printed


SAVE = """
import sys
import numpy as np
from pathlib import Path
from pretraining.text_embeddings import EmbeddingTable
vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
table = EmbeddingTable(model_name="m", revision="r", descriptions=("b", "a"), vectors=vectors)
table.save(Path(sys.argv[1]))
"""


def test_vectors_have_the_same_bytes_in_every_process(tmp_path):
    files = []
    for seed in ("1", "2"):  # Python's order of sets of texts follows from it
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", SAVE, str(tmp_path / seed)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        files.append((tmp_path / seed / VECTORS_FILE).read_bytes())
    assert files[0] == files[1]
