from detflow.data.sources.names import split_extension


def test_only_known_extensions_are_split_off():
    assert split_extension("a.mp4#t=10.jpg") == ("a.mp4#t=10", ".jpg")
    assert split_extension("a.mp4#t=10") == ("a.mp4#t=10", "")
    assert split_extension("v1.2") == ("v1.2", "")
    assert split_extension(".jpg") == (".jpg", "")
    assert split_extension("d/a.XML") == ("d/a", ".XML")
