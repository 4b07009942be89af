import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from ranklock.statistics.grouped import GroupedMoments


@given(
    rows=st.integers(1, 60), parts=st.integers(1, 5), seed=st.integers(0, 2**32 - 1),
    level=st.sampled_from([0.0, 1.0, 1e6]),
)  # fmt: skip
def test_parts_come_out_as_the_whole_does_in_pandas(rows, parts, seed, level):
    draw = np.random.default_rng(seed)
    table = pd.DataFrame({"a": draw.normal(level, 1, rows), "b": draw.normal(size=rows)})
    table.loc[draw.random(rows) < 0.3, "b"] = np.nan
    groups = pd.Series(draw.choice(list("xyz"), rows))
    found = GroupedMoments()
    for part in np.array_split(np.arange(rows), parts):
        if len(part):
            found.add(groups.iloc[part], table.iloc[part])
    whole = table.groupby(groups)
    # Of numbers around 10⁶ the variance is good to some ten digits.
    pd.testing.assert_frame_equal(found.means(), whole.mean(), check_names=False, rtol=1e-9)
    pd.testing.assert_frame_equal(
        found.variances(), whole.var(), check_names=False, rtol=1e-7, atol=1e-9
    )
    pd.testing.assert_frame_equal(found.counts(), whole.count(), check_names=False)
