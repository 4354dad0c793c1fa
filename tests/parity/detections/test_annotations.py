"""Annotations as exporters write them: each reading, what is noted of it, and what is refused."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from exif import with_exif
from hypothesis import given
from hypothesis import strategies as st

from converter.hparams.labels import DATA_SETS
from efficientdet_spec import InputError, get_config
from efficientdet_spec.orientation import orientation
from parity.coco.names import category_names, class_names, stated_names
from parity.detections import annotation_values
from parity.detections.annotations import choose, read_annotations
from parity.detections.classes import Classes
from parity.detections.file_names import name_in_address, relative_name
from parity.detections.image_sizes import check_size, located

CLASSES = 7
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 900, "iscrowd": 0}


def values(image=None, box=None, categories=None, **lists):
    """An annotation file of one image and one box, and what is to be other in it."""
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 128, "height": 96, **(image or {})}],
        "categories": categories or [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{**BOX, **(box or {})}],
        **lists,
    }


def without(entry, *keys):
    return {key: value for key, value in entry.items() if key not in keys}


@pytest.fixture
def read(tmp_path):
    def call(content, classes=CLASSES, **options):
        path = tmp_path / "a.json"
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(data)
        return read_annotations(path, classes, **options)

    return call


def plain(found):
    """What does not depend on how it was written."""
    return found.images, found.categories, found.boxes, found.file_ids


def test_a_file_as_coco_writes_it_is_not_spoken_of(read):
    assert read(values()).notes == ()


@pytest.mark.parametrize(
    ("image", "box", "told"),
    [
        ({"id": "1"}, {}, "id written as text: 1 (the first: images[0])"),
        ({}, {"image_id": "1", "category_id": " 1 "}, "image_id written as text: 1"),
        ({"width": 128.0, "height": "96"}, {}, "width written with a decimal point: 1"),
        ({"width": "128.0"}, {}, "width written as text"),
        ({"id": 1.0}, {"category_id": 1.0}, "category_id written with a decimal point"),
        ({}, {"iscrowd": False}, "iscrowd written as true or false: 1"),
        ({}, {"iscrowd": 0.0}, "iscrowd written with a decimal point"),
        ({}, {"iscrowd": "0"}, "iscrowd written as text"),
        ({}, {"bbox": ["1", "2.0", "3e1", "+40"]}, "bbox written as text: 4"),
        ({}, {"area": "900"}, "area written as text"),
        ({"file_name": "./a.jpg"}, {}, "file_name read as a path below the folder of images: 1"),
        ({"file_name": ".\\a.jpg"}, {}, r"(the first: .\a.jpg)"),
        ({"file_name": "https://x.org/y/a.jpg?z=1"}, {}, "file_name read as a path"),
    ],
)
def test_what_means_one_thing_only_is_read_as_that(read, image, box, told):
    found = read(values(image, box))
    assert plain(found) == plain(read(values()))
    assert any(told in note for note in found.notes)


def test_a_crowd_that_is_true(read):
    found = read(values(box={"iscrowd": True}))
    assert [box.crowd for box in found.boxes] == [True]


@pytest.mark.parametrize("null", [True, False])
def test_an_area_and_a_crowd_that_are_not_said(read, null):
    box = {**without(BOX, "area", "iscrowd"), **({"area": None, "iscrowd": None} if null else {})}
    found = read(values(annotations=[box]))
    assert (found.boxes[0].area, found.boxes[0].crowd) == (1200, False)
    assert found.notes == (
        "annotations without an area, for which that of the box is taken: 1 "
        "(the first: annotations[0])",
    )


def test_a_mark_of_the_order_of_bytes(read):
    text = json.dumps(values()).encode()
    assert plain(read(b"\xef\xbb\xbf" + text)) == plain(read(values()))
    with pytest.raises(InputError, match="UTF-16.*save it as UTF-8"):
        read(json.dumps(values()).encode("utf-16"))


def test_numbers_that_are_none(read, monkeypatch):
    odd = {"license": float("nan"), "note": 'NaN, "Infinity" \\', "score": -float("inf")}
    found = read(values(odd, {"area": float("nan"), "note": "\\\\"}))
    assert found.boxes[0].area == 1200
    assert "NaN or Infinity, which JSON does not have, taken for null: 3" in found.notes[0]
    named = read(values({"file_name": "NaN.jpg", "score": float("nan")}))
    assert named.images[0].file_name == "NaN.jpg"
    with pytest.raises(InputError, match="bbox None.*finite"):
        read(values(box={"bbox": [1, 2, float("nan"), 3]}))
    with pytest.raises(InputError, match="is no JSON"):
        read(b'{"images": NaN, ' + json.dumps(values()).encode()[1:] + b"}")
    monkeypatch.setattr(annotation_values, "MAX_NUMBERLESS_BYTES", 10)
    with pytest.raises(InputError, match="is no JSON"):
        read(values(odd))


@given(st.text(), st.lists(st.sampled_from([float("nan"), float("inf"), 1.5, "NaN", '"', "\\"])))
def test_only_numbers_that_are_none_are_replaced(text, entries):
    """What stands in texts stays, whatever they hold."""
    data = json.dumps([text, entries, {text: -float("inf")}]).encode()
    changed, count = annotation_values._with_nulls(data)
    wrong = [isinstance(x, float) and not np.isfinite(x) for x in entries]
    nulled = [None if is_wrong else x for is_wrong, x in zip(wrong, entries, strict=True)]
    assert json.loads(changed) == [text, nulled, {text: None}] and count == sum(wrong) + 1


# Files of images


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("train/2/a.jpg", "train/2/a.jpg"),
        ("train\\a.jpg", "train/a.jpg"),
        (".\\train\\.\\a.jpg", "train/a.jpg"),
        ("a//b.jpg", "a/b.jpg"),
        ("ä b#1.jpg", "ä b#1.jpg"),
        ("..a.jpg", "..a.jpg"),
        ("../a.jpg", None),
        ("a/../b.jpg", None),
        ("..\\a.jpg", None),
        ("/a.jpg", None),
        ("\\a.jpg", None),
        ("C:\\a.jpg", None),
        ("a.jpg:b", None),
        ("a/", None),
        (".", None),
        ("./", None),
        ("x" * 256, None),
        (f"{'x' * 255}/a", f"{'x' * 255}/a"),
    ],
)
def test_a_path_below_the_folder(text, expected):
    assert relative_name(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://images.org/val2017/000139.jpg", "000139.jpg"),
        ("https://x/y/a%20b.jpg?size=2#top", "a b.jpg"),
        ("gs://bucket/a.jpg", "a.jpg"),
        ("http://x/a%2f..%2fb.jpg", None),
        ("http://x/%2e%2e", None),
        ("http://x/%5cb", None),
        ("http://x/a%0a.jpg", None),
        ("http://x/", None),
        ("http://[x/a.jpg", None),
    ],
)
def test_the_file_of_an_address(text, expected):
    assert name_in_address(text) == expected


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20))
def test_no_name_leads_out_of_the_folder(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "images"
    for name in (relative_name(text), name_in_address(text), relative_name(f"a\\{text}/../b")):
        if name is not None:
            path = (folder / name).resolve()
            assert path != folder and path.is_relative_to(folder)


def test_an_image_that_only_has_an_address(read):
    image = {"id": 1, "coco_url": "http://x/y/a.jpg", "width": 128, "height": 96}
    for named in (image, {**image, "file_name": None}):
        found = read(values(images=[named]))
        assert found.images[0].file_name == "a.jpg" and "coco_url" in found.notes[0]
    with pytest.raises(InputError, match="coco_url 'http://x/'; expected an address"):
        read(values(images=[{**image, "coco_url": "http://x/"}]))


def test_equal_names_in_different_folders(read):
    images = [{"id": n, "file_name": f"{n}/a.jpg", "width": 128, "height": 96} for n in (1, 2)]
    assert [i.file_name for i in read(values(images=images)).images] == ["1/a.jpg", "2/a.jpg"]
    same = [{**images[0], "file_name": "a.jpg"}, {**images[1], "file_name": "./a.jpg"}]
    with pytest.raises(InputError, match=r"images\[1\].*a.jpg.*no other image has"):
        read(values(images=same))


def test_entries_that_stand_twice(read):
    once = values()
    twice = {key: entries * 2 for key, entries in once.items()}
    found = read(twice)
    assert plain(found)[:2] == plain(read(once))[:2] and len(found.boxes) == 2
    assert [note.partition(":")[0] for note in found.notes] == [
        "entries of images that repeat another",
        "entries of categories that repeat another",
        "annotations that repeat another's image, category and box, counted as COCO does",
    ]
    other = {**once["images"][0], "width": 127}
    with pytest.raises(InputError, match=r"images\[1\] has id 1; expected an id that no other"):
        read({**once, "images": [*once["images"], other]})


def test_annotations_of_images_that_are_not_listed(read):
    found = read(values(annotations=[BOX, {**BOX, "image_id": 7}, {**BOX, "image_id": 8}]))
    assert len(found.boxes) == 1
    assert found.notes == ("annotations of images that are not listed, left out: 2 (the first: 7)",)
    with pytest.raises(InputError, match="1 annotations, but none of an image that it lists"):
        read(values(annotations=[{**BOX, "image_id": 7}]))


# Classes


def names(*given, start=0):
    return [{"id": number, "name": name} for number, name in enumerate(given, start)]


def assigned(found):
    """Class id by category id."""
    return {found.file_ids.get(number, number): number for number in found.categories}


def test_an_unused_category_0(read):
    """Roboflow puts a category for all others before them."""
    found = read(values(categories=names("things", "cat", "dog")))
    assert assigned(found) == {1: 1, 2: 2} and not found.file_ids
    assert found.notes == (
        "unused categories beyond the model's classes 1 to 7 were left out: 0 'things'",
    )


def test_a_category_0_that_is_used(read):
    with pytest.raises(InputError) as caught:
        read(values(box={"category_id": 0}, categories=names("cat", "dog")))
    told = str(caught.value)
    assert "1 annotations of category 0, 'cat'" in told and "0 is the background" in told
    assert "from 1" in told and "label_map" in told and len(told.encode()) < 1000


def test_an_unused_category_beyond_the_classes(read):
    found = read(values(categories=names("cat", "dog", "x", "y", start=1) + names("z", start=99)))
    assert assigned(found) == {1: 1, 2: 2, 3: 3, 4: 4} and "99 'z'" in found.notes[0]
    with pytest.raises(InputError, match="1 annotations of category 99, 'z', but.* 1 to 7"):
        read(values(box={"category_id": 99}, categories=names("z", start=99)))
    with pytest.raises(InputError, match="no category with one of the model's class ids"):
        read(values(annotations=[], categories=names("z", start=99)))


CATS = Classes(7, {1: "dog", 2: "Traffic_light", 3: "cat"})


def test_categories_are_the_classes_of_their_names(read):
    listed = names("things", "cat", "traffic  light", "dog", "unused")
    boxes = [{**BOX, "category_id": number, "bbox": [number, 0, 9, 9]} for number in (1, 2, 3)]
    found = read(values(categories=listed, annotations=boxes), CATS)
    assert assigned(found) == {3: 1, 2: 2, 1: 3}
    assert found.categories == {1: "dog", 2: "traffic  light", 3: "cat"}
    assert [(box.category_id, box.bbox[0]) for box in found.boxes] == [(3, 1), (2, 2), (1, 3)]
    assert "mapped to the model's classes by name, after the model's label map" in found.notes[0]
    assert "0 'things', 4 'unused'" in found.notes[1]


def test_rows_between_the_ids_of_the_file_and_of_the_model(read):
    listed = names("cat", "traffic light", "dog")
    found = read(values(box={"category_id": 0}, categories=listed), CATS)
    rows = np.array([[0, 0, 1, 1, 0.9, number] for number in (1, 2, 3, 5)], float)
    inside = found.in_file(rows)
    assert inside[:, 5].tolist() == [2, 1, 0] and rows[:, 5].tolist() == [1, 2, 3, 5]
    assert found.of_model(inside)[:, 5].tolist() == [1, 2, 3]
    # A number that the file does not have must be no class.
    beyond = found.of_model(np.array([[0, 0, 1, 1, 0.9, 3]], float))
    assert beyond[0, 5] > 10**6
    same = read(values())
    assert same.in_file(rows) is rows and same.of_model(rows) is rows


def test_names_that_the_label_map_does_not_have(read):
    """Where all others agree the numbers hold; where they do not, nobody knows."""
    listed = names("dog", "stop light", "cat", start=1)
    boxes = [{**BOX, "category_id": number} for number in (1, 2)]
    found = read(values(categories=listed, annotations=boxes), CATS)
    assert assigned(found) == {1: 1, 2: 2, 3: 3}
    assert "were taken by number, as all others agree: 2 'stop light'" in found.notes[0]
    for wrong in (names("stop light", "dog", "cat", start=1), names("x", "y", start=1)):
        with pytest.raises(InputError, match="none of the model's label map, which has 'dog', 'T"):
            read(values(categories=wrong, annotations=boxes), CATS)


def test_two_categories_of_one_name_are_not_mapped(read):
    listed = names("dog", "dog", "cat")
    boxes = [{**BOX, "category_id": number} for number in (0, 2)]
    with pytest.raises(InputError, match="'dog'.*: the categories 0, 1 are both called so"):
        read(values(categories=listed, annotations=boxes), CATS)


LABEL_MAPS = {
    "twice": ({1: "c0", 2: "c0"}, "'c0', .* the label map calls the classes 1, 2 so"),
    "zero": (
        {0: "c0", 1: "c1", 3: "c3"},
        r"'c0', .* gives that name the id 0, but the model's ids are 1 to 7 \(class index \+ 1\)",
    ),
    "above": (
        {8: "c0", 9: "c2"},
        "'c0', .* gives that name the id 8, but the model's ids are 1 to 7",
    ),
    "from zero": ({n: f"c{n}" for n in range(7)}, "'c0', .* gives that name the id 0"),
}
"""Label maps that have the name of a category, and why it is none of the classes all the same."""


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("which", LABEL_MAPS)
def test_label_maps_that_have_the_name_in_vain(which, start, read):
    """As `.pth` files may have them: nothing untrue is said, nor what was given asked for."""
    label_map, words = LABEL_MAPS[which]
    listed = names("c0", "x", "c2", start=start)
    boxes = [{**BOX, "category_id": start}, {**BOX, "category_id": start + 2}]
    with pytest.raises(InputError, match=words) as caught:
        read(values(categories=listed, annotations=boxes), Classes(7, label_map))
    assert "none of" not in str(caught.value) and "give the model's" not in str(caught.value)


def test_names_numbered_from_zero_are_never_used():
    """Each would be that of the class before; a background is no such thing."""
    config = get_config("efficientdet-tiny")
    for zero in ("background", "c0"):
        own = replace(config, label_map=((0, zero), (1, "c1")))
        if zero == "background":
            assert stated_names(own) == {0: "background", 1: "c1"}
            continue
        for reading in (stated_names, class_names):
            with pytest.raises(InputError, match="label_map calls class 0 'c0'"):
                reading(own)


def test_categories_from_zero_with_a_label_map(read):
    """Whose other names agree; the label map is there, so that it is not asked for."""
    listed = names("x", "dog")
    with pytest.raises(InputError, match="none of the model's label map.*: 0 'x'") as caught:
        read(values(box={"category_id": 0}, categories=listed), Classes(7, {1: "dog"}))
    assert "give a label_map that has all of the model's classes, 1 to 7" in str(caught.value)
    with pytest.raises(InputError, match="Number the categories from 1 .* model's label_map"):
        read(values(box={"category_id": 0}, categories=listed), Classes(7))


def test_a_grouping_category_with_the_name_of_a_class(read):
    classes = Classes(7, {n: f"c{n - 1}" for n in range(1, 8)})
    listed = [{"id": 0, "name": "c2"}, *names(*classes.stated.values(), start=1)]
    boxes = [{**BOX, "category_id": number} for number in (1, 3)]
    found = read(values(categories=listed, annotations=boxes), classes)
    assert assigned(found) == {number: number for number in range(1, 8)}
    assert not any("does not have" in note for note in found.notes)
    told = "3 'c2'; of the first, the categories 0, 3 are both called so"
    assert any(told in note for note in found.notes)


COCO = Classes(90, None, category_names(90))


def test_cocos_80_names_without_gaps(read):
    """Many exporters number them from 1 to 80, or from 0."""
    for start in (0, 1):
        listed = names(*category_names(90).values(), start=start)
        boxes = [{**BOX, "category_id": n, "image_id": 1} for n in range(start, start + 80)]
        found = read(values(categories=listed, annotations=boxes), COCO)
        assert found.categories == category_names(90)
        assert [box.category_id for box in found.boxes] == list(category_names(90))
        assert "COCO's names" in found.notes[0]
        some = choose(found, [1])
        assert some.file_ids == found.file_ids and some.notes == found.notes


def test_cocos_own_numbers_stay(read):
    listed = [{"id": number, "name": name} for number, name in category_names(90).items()]
    found = read(values(categories=listed), COCO)
    assert found.categories == category_names(90) and not found.file_ids and not found.notes


def test_other_names_for_a_model_of_90_classes(read):
    """They are taken by number, but not where half of them are COCO's with other numbers."""
    found = read(values(categories=names("helmet", "vest", start=1)), COCO)
    assert assigned(found) == {1: 1, 2: 2} and not found.notes
    boxes = [{**BOX, "category_id": number} for number in (1, 2)]
    with pytest.raises(InputError, match="whose names are none of COCO's.*'helmet'"):
        read(values(categories=names("helmet", "person", start=1), annotations=boxes), COCO)


def test_files_without_annotations(read):
    found = read(
        without(values(categories=names("things", "cat", "traffic light")), "annotations"),
        CATS,
        need_boxes=False,
    )
    assert assigned(found) == {1: 3, 2: 2} and found.boxes is None
    assert read(values(annotations=None), need_boxes=False).boxes is None
    with pytest.raises(InputError, match="no list 'annotations'"):
        read(values(annotations=None))


def test_what_a_model_says_of_its_classes():
    config = get_config("d0")
    assert stated_names(config) is None and class_names(config) == dict(DATA_SETS["coco"])
    own = replace(config, label_map=((1, "cat"),))
    assert stated_names(own) == class_names(own) == {1: "cat"}
    assert class_names(config.with_classes(7)) == {}


# Files in their folder


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "images"
    path.mkdir()
    return path


def photograph(path, way=None, suffix="jpg", size=(96, 128)):
    """An image of 128x96 pixels, and how it is to be turned."""
    path.parent.mkdir(exist_ok=True)
    data = cv2.imencode(f".{suffix}", np.zeros((*size, 3), np.uint8))[1].tobytes()
    path.write_bytes(data if way is None else with_exif(data, way))


def test_images_below_the_folder(read, folder):
    photograph(folder / "train" / "a.jpg")
    found = located(read(values({"file_name": "train\\a.jpg"})), folder)
    assert found.images[0].file_name == "train/a.jpg"
    # Only what the folder is called stands before the name.
    found = located(read(values({"file_name": "train/a.jpg"})), folder / "train")
    assert found.images[0].file_name == "a.jpg"
    assert "images that lie in train itself" in found.notes[-1]
    with pytest.raises(InputError, match="has none of the 1 images"):
        located(read(values({"file_name": "a.jpg"})), folder)


def test_a_name_that_could_be_of_two_is_left(read, folder):
    photograph(folder / "a.jpg")
    images = [{"id": n, "file_name": f"{n}/a.jpg", "width": 128, "height": 96} for n in (1, 2)]
    with pytest.raises(InputError, match="has none of the 2 images"):
        located(read(values(images=images)), folder)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_a_size_that_the_file_does_not_say(read, folder, suffix):
    photograph(folder / f"a.{suffix}", suffix=suffix)
    image = {"id": 1, "file_name": f"a.{suffix}"}
    for entry in (image, {**image, "width": None, "height": None}, {**image, "width": 128}):
        found = located(read(values(images=[entry])), folder)
        assert (found.images[0].width, found.images[0].height) == (128, 96)
        assert "images whose size the file does not say: 1" in found.notes[0]
    other = read(values(images=[entry, {"id": 2, "file_name": "b.jpg"}]))
    with pytest.raises(InputError, match="b.jpg cannot be read.*do not say its size"):
        located(other, folder)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_photograph_that_lies_on_its_side(read, folder, suffix):
    """It was annotated upright, as viewers show it."""
    path = folder / f"a.{suffix}"
    upright = read(values({"file_name": path.name, "width": 96, "height": 128})).images[0]
    for way in (5, 6, 7, 8):
        photograph(path, way, suffix)
        with pytest.raises(InputError) as caught:
            check_size(path, (96, 128), upright)
        told = str(caught.value)
        assert "is 128x96 pixels, but the annotations are for 96x128" in told
        assert f"EXIF orientation ({way})" in told and "TensorFlow's decoder ignores" in told
    for way in (None, 1, 3):
        photograph(path, way, suffix)
        with pytest.raises(InputError, match="width and height exchanged"):
            check_size(path, (96, 128), upright)
    other = read(values({"width": 97, "height": 128})).images[0]
    photograph(path, 6, suffix)
    with pytest.raises(InputError, match="for 97x128; give the images they belong to"):
        check_size(path, (96, 128), other)
    check_size(path, (128, 96), upright)


def test_photographs_whose_sizes_do_not_show_that_they_are_turned(read, folder):
    photograph(folder / "a.jpg", 3)
    told = located(read(values()), folder).notes
    assert "1 images have an EXIF orientation that viewers follow" in told[0] and "a.jpg" in told[0]
    for way in (None, 1, 6):
        # Of one that lies on its side the size is as stored, so that it was annotated so.
        photograph(folder / "a.jpg", way)
        assert located(read(values()), folder).notes == ()
    photograph(folder / "a.jpg", 6, size=(96, 96))
    square = read(values({"width": 96}))
    assert "EXIF orientation" in located(square, folder).notes[0]


def test_exif_data_of_any_kind():
    data = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    png = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for file in (data, png):
        assert orientation(file) == 1
        for way in range(1, 9):
            turned = with_exif(file, way)
            assert orientation(turned) == orientation(with_exif(file, way, "<")) == way
            for end in range(len(turned)):
                assert orientation(turned[:end]) in (1, way)
        assert orientation(with_exif(file, 0)) == orientation(with_exif(file, 9)) == 1
    assert orientation(b"") == orientation(b"BM") == orientation(b"\xff\xd8\xff") == 1
