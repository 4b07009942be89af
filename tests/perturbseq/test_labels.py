import pytest

from ranklock.perturbseq.labels import read_labels

GENES = {"SPI1": "E1", "GATA1": "E2", "HLA-A": "E3", "NKX2-1": "E4"}


@pytest.mark.parametrize(
    ("label", "gene"),
    [
        ("SPI1", "E1"), ("SPI1_sgRNA1", "E1"), ("SPI1-2", "E1"), ("SPI1+ctrl", "E1"),
        ("ctrl+SPI1", "E1"), ("HLA-A", "E3"), ("HLA-A_g2", "E3"), ("NKX2-1", "E4"),
        ("10005_SPI1_P1P2", "E1"), ("SPI1_AACCGGTTAACCGGTTAACC", "E1"), ("UNKNOWN9", "UNKNOWN9"),
    ],
)  # fmt: skip
def test_a_gene_is_told_from_its_guide(label, gene):
    assert read_labels([label], GENES.get).genes == {label: gene}


@pytest.mark.parametrize(
    "label", ["control", "non-targeting", "non-targeting_00012", "NTC", "ctrl", "safe-targeting 3"]
)
def test_controls(label):
    assert read_labels([label], GENES.get).controls == [label]


def test_what_is_several_genes_or_unclear_is_never_one():
    labels = read_labels(["SPI1_GATA1", "SPI1+GATA1", "SPI1_MYSTERY"], GENES.get)
    assert labels.genes == {}
    assert labels.combinations == ["SPI1_GATA1", "SPI1+GATA1"]
    assert labels.unclear == ["SPI1_MYSTERY"]


def test_named_controls_are_the_only_ones():
    labels = read_labels(["control", "blank"], GENES.get, controls=["blank"])
    assert labels.controls == ["blank"]
    assert labels.genes == {}  # nor is the other a gene
