"""Training from pictures to a run: what is learnt, what is left out, and one line for what cannot be trained on."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgecnn.commands._artifacts import calibration_pictures
from edgecnn.commands._training import train_run
from edgecnn.training import recipes
from edgecnn.training.augment import augment
from edgecnn.training.head import predict
from edgecnn.training.options import Augmentation, HeadOptions, Optimization, Tuning
from edgecnn.training.recipes import tunings
from edgecnn.training.run import read_run
from edgecnn.training.train import load_model, load_pictures, reload_pictures, train
from edgecnn_runtime.errors import EdgecnnError

SPLITS = ("train", "val", "test")


def test_colours_and_shapes_are_learnt_from_scratch(shapes, config, tmp_path):
    options = Optimization(epochs=40, batch_size=24, learning_rate=3e-3, patience=40)
    wanted = config(
        shapes, optimization=options, augmentation=Augmentation(flip="horizontal", crop=0.7, brightness=0.05)
    )
    trained = train(wanted, load_pictures(wanted), tmp_path, workers=2)
    assert trained.metrics["accuracy"]["test"] == 1.0
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_reported_accuracy_is_that_of_the_saved_model(finished):
    model, pictures = load_model(finished), reload_pictures(finished)
    for split in SPLITS:
        index = pictures.of(split)
        predicted = predict(model, [pictures.pixels[i] for i in index]).argmax(1)
        assert (predicted == pictures.truth[index]).mean() == finished.metrics["accuracy"][split]


def test_fast_recipe_trains_the_head_alone(shapes, config, tmp_path):
    wanted = config(shapes, recipe="fast", views=1, optimization=Optimization(epochs=30))
    metrics = train_run(wanted, tmp_path / "run", False, 2)
    assert metrics["accuracy"]["test"] is not None
    run = read_run(tmp_path / "run")
    model, pictures = load_model(run), reload_pictures(run)
    index = pictures.of("test")
    right = (predict(model, [pictures.pixels[i] for i in index]).argmax(1) == pictures.truth[index]).mean()
    # The head was measured on the device engine's features, which may decide one close picture otherwise.
    assert right == pytest.approx(metrics["accuracy"]["test"], abs=1.01 / len(index))


@pytest.mark.parametrize("recipe", ["fast", "scratch"])
def test_two_classes_by_one_sigmoid(draw_shapes, config, tmp_path, recipe):
    data = draw_shapes(tmp_path / "two", ("circle", "square"))
    options = Optimization(epochs=40, batch_size=8, learning_rate=1e-2, patience=0)
    train_run(
        config(data, head=HeadOptions(output="sigmoid", l2=0.0, dropout=0.0), optimization=options, recipe=recipe),
        tmp_path / "run",
        False,
        2,
    )
    run = read_run(tmp_path / "run")
    model, pictures = load_model(run), reload_pictures(run)
    assert model.output_shape == (None, 1)
    probabilities = predict(model, list(pictures.pixels))
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-6)
    assert (probabilities.argmax(1) == pictures.truth).mean() >= 0.9, "the second class is the positive one"
    assert run.metrics["accuracy"]["train"] >= 0.9


def test_progress_is_reported_to_its_end(shapes, config, tmp_path):
    seen: dict[str, tuple[int, int]] = {}
    wanted = config(shapes, recipe="fast", height=40, width=40)
    pictures = load_pictures(wanted, lambda what, done, total: seen.__setitem__(what, (done, total)))
    train(wanted, pictures, tmp_path, 2, lambda what, done, total: seen.__setitem__(what, (done, total)))
    assert {"decoding", "int8", "measuring"} < seen.keys()
    assert all(done == total > 0 for done, total in seen.values()), seen


def test_unreadable_pictures_are_listed_and_left_out(draw_shapes, config, tmp_path):
    data = draw_shapes(tmp_path / "data")
    (data / "circle" / "05.png").write_bytes(b"no picture")
    (data / "square" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    metrics = train_run(config(data), tmp_path / "run", False, 2)
    assert sum(metrics["pictures"].values()) == 35
    left_out = dict(read_run(tmp_path / "run").metrics["unreadable"])
    assert left_out.keys() == {"circle/05.png", "square/phone.heic"}
    assert all(reason and "\n" not in reason for reason in left_out.values())
    assert "phone.heic" in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "circle/05.png" not in {picture.path for picture in read_run(tmp_path / "run").pictures}
    assert len(reload_pictures(read_run(tmp_path / "run")).entries) == 35


def test_csv_with_given_splits_and_unicode_labels(draw_shapes, config, tmp_path):
    data = draw_shapes(tmp_path / "Bilder für alle", ("a", "b"), count=6)
    labels = {"a": "Grüne Äpfel, reif", "b": "日本 の 猫"}
    given = {0: "test", 1: "val"}
    with open(data / "labels.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split"])
        for folder, label in labels.items():
            writer.writerows([f"{folder}/{i:02}.png", label, given.get(i, "train")] for i in range(6))
    train_run(config(data / "labels.csv"), tmp_path / "run", False, 2)
    run = read_run(tmp_path / "run")
    assert run.labels == ("Grüne Äpfel, reif", "日本 の 猫")
    assert run.metrics["pictures"] == {"train": 8, "val": 2, "test": 2}
    assert {p.path: p.split for p in run.pictures if p.split != "train"} == {
        "a/00.png": "test", "a/01.png": "val", "b/00.png": "test", "b/01.png": "val"
    }  # fmt: skip
    assert reload_pictures(run).entries == run.pictures


def test_too_few_pictures_to_hold_any_out_are_refused(draw_shapes, config, tmp_path):
    with pytest.raises(EdgecnnError, match="too few pictures"):
        load_pictures(config(draw_shapes(tmp_path / "data", count=2)))


def test_calibration_pictures_come_from_the_training_split(finished):
    pictures = reload_pictures(finished)
    chosen = calibration_pictures(pictures, seed=0)
    training = {pictures.pixels[i].tobytes() for i in pictures.of("train")}
    assert {picture.tobytes() for picture in chosen} == training


def test_replaced_picture_is_refused(draw_shapes, config, tmp_path):
    data = draw_shapes(tmp_path / "data", count=4)
    train_run(config(data), tmp_path / "run", False, 2)
    run = read_run(tmp_path / "run")
    path = data / "circle" / "02.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    with pytest.raises(EdgecnnError, match=r"circle/02\.png: is not the picture that the run was trained with"):
        reload_pictures(run)
    path.write_bytes(b"")
    with pytest.raises(EdgecnnError, match=r"circle/02\.png: a picture of the run cannot be read any more"):
        reload_pictures(run)
    path.unlink()
    with pytest.raises(EdgecnnError, match=r"circle/02\.png: a picture of the run is not there; .*--pictures"):
        reload_pictures(run)


def test_moved_pictures_are_found_by_data(draw_shapes, config, tmp_path):
    data = draw_shapes(tmp_path / "before", count=4)
    train_run(config(data), tmp_path / "run", False, 2)
    run = read_run(tmp_path / "run")
    before = reload_pictures(run)
    shutil.move(data, tmp_path / "nach her")
    with pytest.raises(EdgecnnError, match="put it back where it was"):
        reload_pictures(run, moved="put it back where it was")
    with pytest.raises(EdgecnnError, match="say where with --pictures") as raised:
        reload_pictures(run)
    assert str(data) in str(raised.value)
    with pytest.raises(EdgecnnError, match="say where with --pictures"):
        reload_pictures(run, tmp_path / "nowhere")
    after = reload_pictures(run, tmp_path / "nach her")
    assert after.root == tmp_path / "nach her"
    np.testing.assert_array_equal(after.pixels, before.pixels)
    np.testing.assert_array_equal(after.truth, before.truth)


def test_pictures_of_a_moved_csv_are_found_by_data(draw_shapes, config, tmp_path):
    data = draw_shapes(tmp_path / "before", ("a", "b"), count=3)
    rows = [f"{name}/{i:02}.png,{name}\n" for name in "ab" for i in range(3)]
    (data / "all.csv").write_text("path,label\n" + "".join(rows), "utf-8")
    train_run(config(data / "all.csv"), tmp_path / "run", False, 2)
    run = read_run(tmp_path / "run")
    shutil.move(data, tmp_path / "after")
    with pytest.raises(EdgecnnError, match="say where with --pictures"):
        reload_pictures(run)
    for place in (tmp_path / "after", tmp_path / "after" / "all.csv"):
        assert len(reload_pictures(run, place).entries) == 6


def test_failed_training_leaves_nothing_and_keeps_the_old_run(finished, draw_shapes, config, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished.folder, run)
    wrong = config(draw_shapes(tmp_path / "data", ("circle", "square")), tuning=Tuning(unfreeze="all"), height=4)
    with pytest.raises(EdgecnnError, match="at least"):
        train_run(wrong, run, True, 2)
    assert read_run(run) == replace(finished, folder=run)
    with pytest.raises(EdgecnnError, match="at least"):
        train_run(wrong, tmp_path / "new", False, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]


def test_near_duplicates_stay_on_one_side_and_the_gain_of_tearing_them_is_told(draw_shapes, config, tmp_path):
    data = draw_shapes(tmp_path / "data", count=10)
    for folder in data.iterdir():
        for path in sorted(folder.iterdir()):
            picture = cv2.imread(str(path))
            for shift in range(1, 4):  # a burst
                cv2.imwrite(str(path.with_stem(f"{path.stem}-{shift}")), np.roll(picture, shift, axis=1))
    pictures = load_pictures(config(data, height=64, width=64))
    assert len(pictures.groups) >= 25
    for group in pictures.groups:
        assert len({pictures.entries[i].split for i in group}) == 1
    run = tmp_path / "run"
    train_run(config(data, height=64, width=64, recipe="fast"), run, False, 2)
    feigned = read_run(run).metrics["feigned"]
    assert feigned["groups"] == len(pictures.groups)
    assert feigned["random"] >= feigned["grouped"]


def test_of_several_tunings_each_has_chances_of_its_own_and_the_second_is_strong(config, tmp_path):
    strong = Augmentation(flip="horizontal", randaugment=9.0, mixup=0.2, cutmix=1.0)
    light = Augmentation(flip="horizontal")
    wanted = config(tmp_path, recipe="best", augmentation=strong, tuning=Tuning(soup=3), seed=5)
    names, configs = zip(*tunings(wanted), strict=True)
    seeds = [own.seed for own in configs]
    assert (len(set(names)), seeds[0], len(set(seeds))) == (3, 5, 3)
    assert [own.augmentation for own in configs] == [light, strong, light]
    assert not set(seeds) & {own.seed for _, own in tunings(replace(wanted, seed=6))}
    alone = replace(wanted, tuning=Tuning(soup=1))
    assert tunings(alone) == [("backbone", alone)]


def _let_win(monkeypatch, name):
    """The weights of this name win on validation; gives the list in which all candidates will stand."""
    seen = []

    def keep(model, candidates, measure):
        seen.append(candidates)
        model.set_weights(candidates[name])
        return name

    monkeypatch.setattr(recipes, "keep_winner", keep)
    return seen


@pytest.mark.slow
def test_the_mean_of_several_tunings_from_the_same_beginning_is_what_the_head_is_fitted_on(
    shapes, config, tmp_path, monkeypatch
):
    begun, tuned, tune = [], [], recipes.whole

    def spy(job, *words):
        begun.append(job.model.get_weights())
        rows = tune(job, *words)
        tuned.append(job.model.get_weights())
        return rows

    monkeypatch.setattr(recipes, "whole", spy)
    candidates = _let_win(monkeypatch, "refitted")
    options = Optimization(epochs=1, batch_size=16, patience=0, learning_rate=1e-3)
    wanted = config(
        shapes, backbone="mobilenet", height=32, width=32, recipe="best", tuning=Tuning(soup=2), optimization=options
    )
    train_run(wanted, tmp_path / "run", False, 2)
    backbone = slice(0, -2)  # the head's kernel and bias come last
    assert len(begun) == len(tuned) == 2
    for start, again, one, other, mean in zip(*begun, *tuned, candidates[-1]["soup"], strict=True):
        np.testing.assert_array_equal(start, again)
        np.testing.assert_allclose(mean, (one.astype(np.float64) + other) / 2, rtol=1e-6, atol=1e-12)
    assert any((one != other).any() for one, other in zip(*tuned, strict=True))
    kept = load_model(read_run(tmp_path / "run")).get_weights()
    for mean, given in zip(candidates[-1]["soup"][backbone], kept[backbone], strict=True):
        np.testing.assert_array_equal(mean, given)
    assert any((one != other).any() for one, other in zip(candidates[-1]["soup"][-2:], kept[-2:], strict=True))


@pytest.mark.slow
def test_best_tunes_on_smaller_pictures_and_is_measured_on_whole_ones(shapes, config, tmp_path, monkeypatch):
    seen = set()

    def seeing(pixels, options, rng, height, width):
        seen.add((*pixels.shape[:2], height, width))
        return augment(pixels, options, rng, height, width)

    monkeypatch.setattr(recipes, "augment", seeing)
    kept = _let_win(monkeypatch, "trained")
    options = Optimization(epochs=1, batch_size=16, patience=0, learning_rate=1e-4)
    tuning = Tuning(train_size=32)
    train_run(
        config(shapes, backbone="mobilenet", height=64, width=64, recipe="best", tuning=tuning, optimization=options),
        tmp_path / "run", False, 2,
    )  # fmt: skip
    assert seen == {(64, 64, 32, 32)}
    run = read_run(tmp_path / "run")
    model, pictures = load_model(run), reload_pictures(run)
    assert model.input_shape == (None, 64, 64, 3)
    for given, tuned in zip(model.get_weights(), kept[-1]["trained"], strict=True):
        np.testing.assert_array_equal(given, tuned)
    assert any((one != other).any() for one, other in zip(kept[0]["start"], model.get_weights(), strict=True))
    val = pictures.of("val")
    probabilities = predict(model, [pictures.pixels[i] for i in val])[np.arange(len(val)), pictures.truth[val]]
    last = max(epoch for epoch, stage in enumerate(run.history["stage"]) if stage == 2)  # the refit of the head is 3
    assert run.history["val_loss"][last] == pytest.approx(-np.log(np.maximum(probabilities, 1e-7)).mean(), rel=1e-4)
    assert "64 x 64 px, crop; tuned at 32 px" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_class_that_vanished_or_is_new_is_named(draw_shapes, config, tmp_path, capsys):
    data = draw_shapes(tmp_path / "data")
    train_run(config(data), tmp_path / "run", False, 2)
    run = read_run(tmp_path / "run")
    shutil.copytree(data / "circle", data / "blob")
    assert reload_pictures(run).labels == ("circle", "square", "triangle")
    assert capsys.readouterr().err == f"edgecnn: class 'blob' in {data} is new; {run.folder} does not know it\n"
    shutil.rmtree(data / "square")
    with pytest.raises(EdgecnnError, match="no picture of class 'square' is there any more"):
        reload_pictures(run)
