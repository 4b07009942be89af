import pandas as pd
import pytest

from ranklock.errors import InputError
from ranklock.run.lookup import rows_named

GENES = pd.DataFrame(
    {
        "gene": ["SPI1", "FTL", "Ftl", "SPI1+FTL"],
        "gene_id": ["ENSG1", "ENSG2", "ENSG3", "ENSG1+ENSG2"],
    }
)


@pytest.mark.parametrize(
    ("name", "rows"),
    [("SPI1", [0]), ("spi1", [0]), ("ENSG1", [0]), ("ENSG1.12", [0]), ("FTL", [1]), ("Ftl", [2]),
     ("SPI1+FTL", [3]), ("ENSG1+ENSG2", [3])],
)  # fmt: skip
def test_any_name_of_a_gene_finds_it(name, rows):
    assert rows_named(GENES, name, "gene", "here").nonzero()[0].tolist() == rows


def test_what_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"no gene SPI2 in here\. Nearest: SPI1"):
        rows_named(GENES, "SPI2", "gene", "here")
