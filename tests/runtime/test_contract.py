"""The contract: what goes in comes out, and nothing else is let in."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn_runtime.contract import (
    FILTERS,
    SCHEMA,
    Accuracy,
    Contract,
    Decision,
    Golden,
    Preprocessing,
    Provenance,
    Publication,
    _digest,
)
from edgecnn_runtime.errors import ModelError

printable = st.text(st.characters(exclude_categories=["C", "Zs", "Zl", "Zp"], include_characters=" "), max_size=12)
labels = st.lists(printable.filter(str.strip), min_size=2, max_size=5, unique=True).map(tuple)
fractions = st.floats(0, 1)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    names = draw(labels)
    low, middle, high = sorted(draw(st.tuples(fractions, fractions, fractions)))
    probabilities = st.lists(fractions, min_size=len(names), max_size=len(names)).map(tuple)
    golden = st.builds(Golden, st.just("aGk="), probabilities, st.floats(0, 0.5, exclude_min=True))
    return Contract(
        height=draw(st.integers(1, 4096)),
        width=draw(st.integers(1, 4096)),
        labels=names,
        activation=draw(st.sampled_from(["softmax", "sigmoid"])) if len(names) == 2 else "softmax",
        preprocessing=Preprocessing(
            filters=draw(st.lists(st.sampled_from(FILTERS), max_size=3).map(tuple)),
            fit=draw(st.sampled_from(["crop", "squash", "pad"])),
            crop_fraction=draw(st.floats(0, 1, exclude_min=True)),
            resampling=draw(st.sampled_from(["fast_area", "area", "linear"])),
        ),
        decision=Decision(draw(st.floats(0.01, 100)), draw(fractions)),
        provenance=Provenance(
            backbone=draw(printable),
            precision=draw(printable),
            seed=draw(st.none() | st.integers()),
            versions=draw(st.dictionaries(printable, printable, max_size=3)),
            test=draw(st.none() | st.just(Accuracy(middle, (low, high), draw(st.integers(1, 10**6))))),
            published_top1=draw(st.none() | st.floats(0, 100)),
            publication=Publication(draw(printable), draw(printable), draw(printable)),
        ),
        goldens=tuple(draw(st.lists(golden, max_size=2))),
    )


@given(contract=contracts())
def test_round_trip(contract: Contract) -> None:
    text = contract.to_json()
    assert "\n" not in text
    assert Contract.from_json(text) == contract
    assert Contract.from_json(text.encode()) == contract


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        return [leaf for name, item in value.items() for leaf in leaves(item, (*path, name))]
    if isinstance(value, list) and value:
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
    return [path]


FULL = Contract(
    height=224,
    width=192,
    labels=("crème brûlée", "寿司"),
    provenance=Provenance(
        "net", "int8", "by hand", "00", 3, "2024", {"a": "1"}, Accuracy(0.5, (0.4, 0.6), 10, 0.9), published_top1=75.1
    ),
    preprocessing=Preprocessing(filters=("gray",)),
    goldens=(Golden("aGk=", (0.25, 0.75), 0.1),),
)


def at(document: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    for step in path[:-1]:
        document = document[step]
    return document, path[-1]


def signed(body: Any) -> str:
    """A forger's contract: altered, with a hash that fits."""
    return json.dumps({"edgecnn_contract": SCHEMA, "contract": body, "sha256": _digest(body)})


@pytest.mark.parametrize("path", leaves(json.loads(FULL.to_json())), ids=str)
def test_every_altered_or_missing_field_is_seen(path: tuple[Any, ...]) -> None:
    for change in ("alter", "remove"):
        document = json.loads(FULL.to_json())
        owner, name = at(document, path)
        if change == "remove":
            del owner[name]
        else:
            owner[name] = owner[name] + 1 if isinstance(owner[name], (int, float)) else f"{owner[name]}x"
        with pytest.raises(ModelError, match=r"altered|damaged|schema"):
            Contract.from_json(json.dumps(document))


@pytest.mark.parametrize("path", leaves(json.loads(FULL.to_json())["contract"]), ids=str)
@pytest.mark.parametrize(
    "junk", [True, [], {}, [[[]]], "\x1b[2J", "\ud800", float("nan"), float("inf"), 10**400, -1, None], ids=repr
)
def test_junk_under_a_valid_hash_is_one_line_or_a_contract(path: tuple[Any, ...], junk: object) -> None:
    body = json.loads(FULL.to_json())["contract"]
    owner, name = at(body, path)
    owner[name] = junk
    try:
        contract = Contract.from_json(signed(body))
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017 - null, -1 or an empty list may be allowed
        assert "\x1b" not in str(error)  # noqa: PT017
    else:
        assert str(asdict(contract)).isprintable()


def test_unknown_and_missing_fields_and_other_documents() -> None:
    body = json.loads(FULL.to_json())["contract"]
    with pytest.raises(ModelError, match="unknown field 'colour'; a newer edgecnn-runtime may know it"):
        Contract.from_json(signed({**body, "colour": "bgr"}))
    del body["labels"]
    with pytest.raises(ModelError, match=r"contract: missing .*labels"):
        Contract.from_json(signed(body))
    with pytest.raises(ModelError, match="an object is needed"):
        Contract.from_json(signed([1, 2]))


@pytest.mark.parametrize("schema", [2, 99, 0, -1])
def test_another_schema_names_the_pip_command(schema: int) -> None:
    document = {**json.loads(FULL.to_json()), "edgecnn_contract": schema}
    with pytest.raises(ModelError, match=f"schema {schema}, .*'pip install --upgrade edgecnn-runtime'"):
        Contract.from_json(json.dumps(document))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'{"edgecnn_contract": true}',
        b'{"edgecnn_contract": "1"}',
        b'{"edgecnn_contract": 1' + b"0" * 5000 + b"}",
        b"[" * 200_000,
        b'{"edgecnn_contract": 1, "contract": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"edgecnn_contract": 1, "contract": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"edgecnn_contract": 1, "contract": NaN, "sha256": null}',
    ],
    ids=lambda text: repr(text[:40]),
)
def test_damaged_texts_and_bombs(text: bytes) -> None:
    with pytest.raises(ModelError, match=r"damaged|altered|schema"):
        Contract.from_json(text)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"height": 0}, "height and width must be 1 to 4096 px"),
        ({"width": 5000}, "height and width"),
        ({"labels": ("one",)}, "at least two labels"),
        ({"labels": ("a", "a")}, "labels must differ"),
        ({"labels": ("a", " ")}, "printable"),
        ({"labels": ("a", "b\nc")}, "printable"),
        ({"labels": ("a", "\x1b]0;owned\x07")}, "printable"),
        ({"labels": ("a", "\u202egnp")}, "printable"),
        ({"activation": "argmax"}, "softmax or sigmoid"),
        ({"activation": "sigmoid", "labels": ("a", "b", "c"), "goldens": ()}, "sigmoid means two labels"),
        ({"labels": ("a", "b", "c")}, "one probability per label"),
    ],
)
def test_rules_of_the_contract(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ModelError, match=rule):
        replace(FULL, **changes)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Preprocessing(filters=("sepia",)), "filters must be among gray"),
        (lambda: Preprocessing(fit="stretch"), "fit must be one of"),  # type: ignore[arg-type]
        (lambda: Preprocessing(crop_fraction=0.0), "crop_fraction"),
        (lambda: Preprocessing(resampling="cubic"), "resampling must be one of"),  # type: ignore[arg-type]
        (lambda: Decision(temperature=0.0), "temperature"),
        (lambda: Decision(reject_threshold=float("nan")), "reject_threshold"),
        (lambda: Accuracy(0.5, (0.6, 0.7), 10), "accuracy must lie in its interval"),
        (lambda: Accuracy(0.5, (0.4, 0.7), 0), "pictures must be positive"),
        (lambda: Golden("", (1.5,), 0.1), "golden probabilities"),
        (lambda: Golden("", (0.5,), 0.0), "golden tolerance"),
        (lambda: Golden("x" * 200_001, (0.5,), 0.1), "tiny"),
        (lambda: Golden("!", (0.5,), 0.1).picture(), "a golden picture is damaged"),
        (lambda: Provenance("net", "int8", weights="\x1b[31m"), "printable"),
        (lambda: Provenance("net", "int8", versions={"a\n": "1"}), "printable"),
        (lambda: Publication(license="MIT\n"), "printable"),
    ],
)
def test_rules_of_the_parts(make: Any, rule: str) -> None:
    with pytest.raises(ModelError, match=rule):
        make()


def test_how_many_outputs() -> None:
    assert FULL.outputs == 2
    assert replace(FULL, activation="sigmoid").outputs == 1
