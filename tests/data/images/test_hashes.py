from detflow.data.images.decode import read_image_facts
from detflow.data.images.hashes import perceptual_hash


def _distance(one, other):
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


def test_the_perceptual_hash_knows_a_picture_again(pictures):
    picture = pictures.draw(640, 480, seed=3)
    original = perceptual_hash(read_image_facts(pictures.encode(picture, quality=95)).grey)
    for variant in (
        pictures.encode(picture, quality=60),
        pictures.encode(picture, "PNG"),
        pictures.encode(picture.resize((500, 375)), quality=90),
        pictures.encode(picture.point(lambda value: value * 0.9), quality=90),
    ):
        assert _distance(original, perceptual_hash(read_image_facts(variant).grey)) <= 12
    for seed in range(4, 14):
        other = perceptual_hash(
            read_image_facts(pictures.encode(pictures.draw(640, 480, seed=seed))).grey
        )
        assert _distance(original, other) > 60
