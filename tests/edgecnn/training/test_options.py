"""Options: checked once, the same on the command line and in a file; presets that the recipes are made of."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from edgecnn.training.options import GROUP_OF, GROUPS, HeadOptions, Machine, Optimization, Tuning
from edgecnn.training.presets import MANY_PICTURES, PRESETS, STANDARD_VIEWS, make_config, read_options, unused
from edgecnn.training.recipes import beside_tuning
from edgecnn_runtime.errors import EdgecnnError, UsageError

MANY = {"a": 500, "b": 400}


def test_names_are_unique_and_every_option_explains_itself():
    assert len(GROUP_OF) == sum(len(fields(kind)) for kind in GROUPS.values())
    for kind in GROUPS.values():
        for item in fields(kind):
            assert len(item.metadata["help"]) > 5
            assert item.metadata["help"].endswith("."), item.name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Optimization(learning_rate=0.0), r"--learning-rate must lie in \[1e-08, 10\]"),
        (lambda: Optimization(learning_rate=float("nan")), "--learning-rate must lie in"),
        (lambda: Optimization(epochs=2.5), "--epochs is a int"),
        (lambda: Optimization(epochs=True), "--epochs is a int"),
        (lambda: Optimization(optimizer="lion"), "--optimizer is one of adam, adamw, sgd, rmsprop"),
        (lambda: HeadOptions(dropout="much"), "--dropout is a float"),
        (lambda: Optimization(warmup=1.0, schedule="plateau"), "--warmup does not go with --schedule plateau"),
        (lambda: Optimization(epochs=10**400), r"--epochs must lie in \[1, 100000\] \(received: 1000"),
        (lambda: Machine(devices="cpu:0,1,0"), r"--devices names each one once \(received: cpu:0,1,0\)"),
        (lambda: Machine(devices="cpu:9999999"), r"--devices numbers devices from 0 to 63 \(received: cpu:9999999\)"),
        (lambda: Machine(devices="gpu:" + "9" * 5000), "--devices numbers devices from 0 to 63"),
        (lambda: Tuning(unfreeze="some"), "--unfreeze is none, block, top, all or a number"),
    ],
)
def test_value_out_of_range_says_the_rule_and_what_was_received(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("recipe", PRESETS)
def test_presets_are_options(recipe):
    config, why = make_config(Path("photos"), {"recipe": recipe}, MANY)
    assert config.recipe == recipe
    assert why.endswith(f"recipe {recipe}, as asked")
    for name, value in PRESETS[recipe].items():
        assert getattr(getattr(config, GROUP_OF[name]), name) == value


@pytest.mark.parametrize(
    ("given", "counts", "recipe", "because"),
    [
        ({}, {"a": 100, "b": 100}, "fast", "200 pictures are too few"),
        ({}, {"a": 1000, "b": 10}, "fast", "10 pictures of a class"),
        ({}, MANY, "standard", "enough to tune the backbone"),
        ({"weights": "none"}, MANY, "scratch", "the weights are random"),
        ({"backbone": "lenet5"}, MANY, "scratch", "the weights are random"),
    ],
)
def test_recipe_is_chosen_by_the_data_and_says_why(given, counts, recipe, because):
    config, why = make_config(Path("photos"), given, counts)
    assert config.recipe == recipe
    assert because in why
    assert f"{sum(counts.values()):,} pictures, 2 classes: recipe {recipe}" in why


def test_more_pictures_need_fewer_epochs_and_a_typed_number_wins():
    assert make_config(Path("x"), {}, MANY)[0].optimization.epochs == PRESETS["standard"]["epochs"]
    assert make_config(Path("x"), {}, {"a": STANDARD_VIEWS, "b": STANDARD_VIEWS})[0].optimization.epochs == 2
    assert make_config(Path("x"), {"epochs": 77}, MANY)[0].optimization.epochs == 77


def test_what_many_pictures_change_is_said():
    def said(given, pictures):
        return make_config(Path("x"), given, {"a": 100, "b": pictures - 100})[1]

    assert said({}, 2_000).endswith("--recipe fast is much quicker")
    assert said({}, 30_000).endswith("; for so many pictures --pooling average and --epochs 2")
    assert said({"epochs": 8}, 30_000).endswith("; for so many pictures --pooling average")


@pytest.mark.parametrize("recipe", PRESETS)
def test_every_recipe_takes_every_schedule(recipe):
    for schedule in ("constant", "step", "exponential", "cosine", "plateau"):
        options = make_config(Path("x"), {"recipe": recipe, "schedule": schedule}, MANY)[0].optimization
        assert options.schedule == schedule
    with pytest.raises(UsageError, match="--warmup does not go"):
        make_config(Path("x"), {"recipe": recipe, "schedule": "plateau", "warmup": 1.0}, MANY)


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"recipe": "fast", "flip": "both", "mixup": 0.2}, ["--flip, --mixup: not used, recipe fast augments nothing"]),
        ({"recipe": "fast", "flip": "both", "mixup": 0.2, "views": 2}, ["--mixup: not used, recipe fast mixes no"]),
        ({"recipe": "fast", "unfreeze": "all", "averaging": 0.9}, ["--averaging: not", "--unfreeze: not"]),
        ({"recipe": "scratch", "views": 2, "unfreeze": "all"}, ["--views: not used", "--unfreeze: not used"]),
        ({"recipe": "standard", "fine_tuning_rate": 1e-4}, ["--fine-tuning-rate: not used, it is for recipe course"]),
        ({"recipe": "scratch", "weight_decay": 0.1}, ["--weight-decay: not used, it is for --optimizer adamw"]),
        (
            {"recipe": "fast", "fit": "squash", "crop_fraction": 0.9},
            ["--crop-fraction: not used, it is for --fit"],
        ),
        ({"recipe": "best", "min_delta": 0.1}, ["--min-delta: not used, it is for --patience"]),
        ({"recipe": "best", "mixup": 0.1, "weight_decay": 0.1, "unfreeze": "block", "views": 1}, []),
        ({"recipe": "course", "fine_tuning_rate": 1e-4, "min_delta": 0.1, "flip": "none"}, []),
    ],
)
def test_options_that_a_recipe_does_not_look_at_are_named(given, lines):
    found = unused(make_config(Path("x"), given, MANY)[0], given)
    assert len(found) == len(lines)
    for line, beginning in zip(found, lines, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize("recipe", PRESETS)
def test_nothing_that_a_recipe_sets_is_unused(recipe):
    config, _ = make_config(Path("x"), {"recipe": recipe}, MANY)
    changed = [name for name, value in PRESETS[recipe].items() if value != _default(name)]
    assert unused(config, changed) == []


def _default(name):
    return getattr(GROUPS[GROUP_OF[name]](), name)


def test_the_guide_tells_what_every_recipe_sets():
    names = list(dict.fromkeys(name for preset in PRESETS.values() for name in preset))
    rows = []
    for name in names:
        values = [str(preset.get(name, _default(name))) for preset in PRESETS.values()]
        rows.append(f"| `--{name.replace('_', '-')}` | {' | '.join(values)} |\n")
    table = f"| | {' | '.join(PRESETS)} |\n|---|{'---|' * len(PRESETS)}\n{''.join(rows)}"
    assert table in (Path(__file__).parents[3] / "docs" / "guide.md").read_text("utf-8"), table


def test_beside_tuning_the_head_has_its_own_settings_but_the_balance_of_the_data():
    given = {"recipe": "standard", "balance": "weights", "learning_rate": 1e-5, "epochs": 2}
    assert beside_tuning(make_config(Path("x"), given, MANY)[0]) == Optimization(balance="weights")


@pytest.mark.parametrize("recipe", ["fast", "standard", "best"])
def test_features_of_very_many_pictures_are_few(recipe):
    def pooling(given, pictures):
        return make_config(Path("x"), {"recipe": recipe, **given}, {"a": 100, "b": pictures - 100})[0].head.pooling

    assert pooling({}, MANY_PICTURES) == "levels"
    assert pooling({}, MANY_PICTURES + 1) == "average"
    assert pooling({"pooling": "levels"}, MANY_PICTURES + 1) == "levels"


@pytest.mark.parametrize(
    ("given", "size", "train_size"),
    [
        ({"recipe": "standard"}, 160, 0),
        ({"recipe": "standard", "backbone": "efficientnet_lite1"}, 160, 0),
        ({"recipe": "best"}, 288, 224),
        ({"recipe": "best", "backbone": "efficientnet_lite1"}, 320, 256),
        ({"recipe": "best", "size": 160}, 160, 128),
        ({"recipe": "best", "size": 33}, 33, 32),
        ({"recipe": "best", "size": 32}, 32, 0),
        ({"recipe": "best", "size": 128, "backbone": "inception_v3"}, 128, 96),
        ({"recipe": "best", "size": 75, "backbone": "inception_v3"}, 75, 0),
        ({"recipe": "best", "train_size": 0}, 288, 0),
        ({"recipe": "best", "train_size": 100, "size": 100}, 100, 100),
        ({"recipe": "best", "pooling": "flatten"}, 224, 0),
        ({"recipe": "best", "backbone": "alexnet"}, 227, 0),
        ({"recipe": "standard", "size": 224, "train_size": 160}, 224, 160),
        ({"recipe": "fast", "train_size": 0}, 224, 0),
    ],
)
def test_best_has_a_larger_input_and_is_tuned_at_a_smaller_size(given, size, train_size):
    config, _ = make_config(Path("photos"), given, MANY)
    assert (config.height, config.width, config.tuning.train_size) == (size, size, train_size)


@pytest.mark.parametrize(
    ("given", "fit"),
    [
        ({"recipe": "standard"}, "crop"),
        ({"recipe": "best"}, "pad"),
        ({"recipe": "best", "fit": "crop"}, "crop"),
        ({"recipe": "best", "crop_fraction": 0.9}, "crop"),
    ],
)
def test_best_sees_whole_pictures_unless_told_otherwise(given, fit):
    assert make_config(Path("photos"), given, MANY)[0].preprocessing.fit == fit


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "fast", "soup": 2}, r"--soup is for the recipes standard and best \(received: fast\)"),
        ({"recipe": "best", "soup": 0}, r"--soup must lie in \[1, 16\] \(received: 0\)"),
        ({"recipe": "standard", "train_size": 161}, "efficientnet_lite0 is 0 or from 32 to the input's 160"),
        ({"recipe": "best", "train_size": 31}, "efficientnet_lite0 is 0 or from 32 to the input's 288"),
        ({"recipe": "best", "backbone": "xception", "train_size": 64}, "xception is 0 or from 71 to the input's 384"),
        ({"recipe": "best", "train_size": -1}, r"--train-size must lie in \[0, 4096\]"),
        ({"recipe": "best", "train_size": "small"}, "--train-size is a int"),
        ({"recipe": "best", "train_size": 64, "pooling": "flatten"}, "does not go with --pooling flatten"),
        *(
            ({"recipe": recipe, "train_size": 64}, rf"for the recipes standard and best \(received: {recipe}\)")
            for recipe in ("fast", "scratch", "course")
        ),
    ],
)
def test_train_size_and_soup_where_they_cannot_be_are_one_line(given, message):
    with pytest.raises(UsageError, match=message) as raised:
        make_config(Path("photos"), given, MANY)
    assert "\n" not in str(raised.value)


def test_file_and_command_line(tmp_path, here, refused, shapes):
    words = ("train", shapes, "--recipe", "fast", "--train-size", 64, "--out", tmp_path / "run")
    assert "--train-size is for the recipes standard and best" in refused(*words, code=2)

    path = tmp_path / "mine.toml"
    path.write_text('seed = 4\nrecipe = "fast"\n[head]\ndropout = 0.5\n[optimization]\nlearning-rate = 1\n', "utf-8")
    given = read_options(path)
    assert given == {"seed": 4, "recipe": "fast", "dropout": 0.5, "learning_rate": 1}
    config, _ = make_config(Path("photos"), given, MANY)
    assert (config.seed, config.head.dropout, config.optimization.learning_rate) == (4, 0.5, 1)

    from edgecnn.training.run import read_run

    path.write_text('backbone = "basic_cnn"\nsize = 32\nepochs = 9\nbatch_size = 8\nreject-at = "5%"\n', "utf-8")
    done = here("train", shapes, "--config", path, "--epochs", 1, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    made = read_run(tmp_path / "run").config
    assert (made.backbone, made.optimization.epochs, made.optimization.batch_size) == ("basic_cnn", 1, 8)
    assert made.reject_at == 0.05

    path.write_text("unfreeze = 10\nmixup = 0.5\n", "utf-8")
    assert make_config(Path("photos"), read_options(path), MANY)[0].tuning.unfreeze == "10"
    again = here("train", shapes, "--config", path, "--recipe", "fast", "--backbone", "basic_cnn", "--size", 32,
                 "--views", 1, "--epochs", 1, "--out", tmp_path / "again")  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "edgecnn: --mixup: not used, recipe fast mixes no features\n" in again.stderr
    assert "edgecnn: --unfreeze: not used" in again.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dropuot = 0.5", "did you mean 'dropout'"),
        ("dropout = [1]", "--dropout is a float"),
        ("dropout = ", "cannot be read as TOML"),
        ("dropout = 0.1\n[head]\ndropout = 0.2", "dropout stands there twice"),
        ("size = '32'", "--size is a whole number"),
        ("filter = 'gray'", "filter is a list of names"),
        ("recipe = 3", "recipe is a text"),
        ("recipe = 'slow'", "no such recipe"),
    ],
)
def test_wrong_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(EdgecnnError, match=message) as raised:
        make_config(Path("photos"), read_options(path), MANY)
    assert "\n" not in str(raised.value)


def test_scratch_begins_with_random_weights():
    config, _ = make_config(Path("photos"), {"recipe": "scratch"}, MANY)
    assert (config.backbone, config.weights) == ("efficientnet_lite0", "none")
    config, _ = make_config(Path("photos"), {"recipe": "scratch", "weights": "imagenet"}, MANY)
    assert config.weights == "imagenet"
