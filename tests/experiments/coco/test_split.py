import json

from experiments.coco import split

INSTANCES = {
    "info": {},
    "categories": [{"id": 3, "name": "car"}],
    "images": [{"id": number * 7} for number in range(50)],
    "annotations": [{"id": n, "image_id": (n % 50) * 7} for n in range(120)],
}


def test_split_parts_are_disjoint_and_whole():
    train, val = split.split(INSTANCES, num_val=10, seed=0)
    ids = [{image["id"] for image in part["images"]} for part in (train, val)]
    assert (len(ids[0]), len(ids[1])) == (40, 10)
    assert ids[0] | ids[1] == {image["id"] for image in INSTANCES["images"]}
    assert len(train["annotations"]) + len(val["annotations"]) == 120
    assert {one["image_id"] for one in val["annotations"]} == ids[1]
    assert val["categories"] == INSTANCES["categories"]


def test_shares_are_nested_and_rounded():
    found = split.shares(INSTANCES, percents=(1, 5, 10), seed=0)
    # 50 images: half an image becomes the least, one; 2.5 rounds to the even 2; 5.
    assert [len(found[p]) for p in (1, 5, 10)] == [1, 2, 5]
    assert set(found[1]) <= set(found[5]) <= set(found[10])


def test_main_writes_files_whose_ids_are_trained_on(tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(INSTANCES))
    split.main([f"--coco={tmp_path}", "--num_val=10"])
    train = json.loads((tmp_path / "kd_tf" / "train.json").read_text())
    ids = [int(line) for line in (tmp_path / "kd_tf" / "ids_10.txt").read_text().split()]
    assert len(ids) == 4 and set(ids) <= {image["id"] for image in train["images"]}
    assert "40 images to train on, 10 to validate" in capsys.readouterr().out
