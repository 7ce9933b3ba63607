import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_jax.data import schema

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
_records = st.fixed_dictionaries(
    dict(
        key=st.text(min_size=1),
        image=st.binary(),
        height=st.integers(1, 9999),
        width=st.integers(1, 9999),
        captions=st.lists(st.text(), max_size=3).map(tuple),
        label=st.integers(-1, 1000),
        label_name=st.text(max_size=9),
        attributes=st.dictionaries(st.text(max_size=4), _json, max_size=3),
        sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    )
)


@given(_records)
def test_unpack_is_the_inverse_of_pack(values):
    record = schema.Record(**values)
    assert schema.unpack(schema.pack(record)) == record


def test_other_versions_and_damage_are_refused():
    good = schema.pack(schema.Record(key="a", image=b"x", height=1, width=1))
    values = msgpack.unpackb(good)
    with pytest.raises(schema.RecordError, match="schema version 99, this code reads"):
        schema.unpack(msgpack.packb({**values, "version": 99}))
    with pytest.raises(schema.RecordError, match=r"fields differ.*extra"):
        schema.unpack(msgpack.packb({**values, "extra": 1}))
    for damaged in (b"", good[:-3], b"\xc1" + good, msgpack.packb([1])):
        with pytest.raises(schema.RecordError):
            schema.unpack(damaged)
