"""Random images in mini-ImageNet's Kaggle layout, at full size 1.3 GB."""

import pickle

import numpy as np

NUM_CLASSES = {"train": 64, "val": 16, "test": 20}


def make_mini_imagenet(folder, *, images_per_class=600, side=84, protocol=4, seed=0):
    """Write the three pickles; class names are as WordNet's ids look, and are not in the order of the images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for split, num_classes in NUM_CLASSES.items():
        content = {
            "image_data": rng.integers(0, 256, (num_classes * images_per_class, side, side, 3), dtype=np.uint8),
            "class_dict": {
                f"n{split}{class_id:04d}": list(range(class_id * images_per_class, (class_id + 1) * images_per_class))
                for class_id in reversed(range(num_classes))
            },
        }
        with (folder / f"mini-imagenet-cache-{split}.pkl").open("wb") as file:
            pickle.dump(content, file, protocol=protocol)
