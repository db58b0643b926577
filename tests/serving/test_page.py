"""The server's page as a person uses it, in a real browser."""

import json

import pytest


def boxes(browser):
    return browser.run("[...document.querySelectorAll('.box')].map(box => box.innerText)")


def open_page(browser, server):
    browser.open(server.client.base_url)
    browser.wait_for("document.getElementById('classes').textContent.startsWith('Finds 3')")


def write(kit, folder, name, *arguments, **options):
    (folder / name).write_bytes(kit.encode(*arguments, **options))
    return folder / name


def test_a_person_uploads_a_picture_and_sees_boxes(browser, served, kit, tmp_path):
    # Stored on its side, as phones do: what the browser shows and what the boxes lie on are both
    # upright.
    picture = write(kit, tmp_path, "picture.png", (10, 10, 200), (300, 200), "JPEG", orientation=6)
    open_page(browser, served)
    assert browser.text("#classes") == "Finds 3 classes: red, green, <b>blue</b>"
    # What predict leaves out, this page leaves out.
    assert browser.run("document.getElementById('threshold').value") == "0.3"
    assert "0.30, as detflow predict does" in browser.text("#threshold-note")
    browser.upload("#file", picture)
    browser.wait_for(
        "document.getElementById('status').textContent.startsWith('1 object, 1 below')"
    )
    # A class's name is text, whatever it looks like.
    assert boxes(browser) == ["<b>blue</b> 0.90"]
    assert browser.text("#list").split("\n") == ["<b>blue</b>", "0.90"]
    place = browser.run(
        "(([box, image]) => [(box.left - image.left) / image.width,"
        " (box.top - image.top) / image.height,"
        " box.width / image.width, box.height / image.height])"
        "([document.querySelector('.box'), document.getElementById('picture')]"
        ".map(one => one.getBoundingClientRect()))"
    )
    assert place == pytest.approx([0.1, 0.25, 0.4, 0.5], abs=0.01)

    # The slider filters without asking the server again; so do the keys.
    asked = kit.metric(served.client, 'detflow_requests_total{route="predict"')
    browser.choose("#threshold", "0.1")
    assert sorted(boxes(browser)) == ["<b>blue</b> 0.20", "<b>blue</b> 0.90"]
    assert browser.text("#counts") == "<b>blue</b> 2"
    browser.focus("#threshold")
    for _ in range(11):
        browser.press("ArrowRight")
    assert (browser.text("#shown"), boxes(browser)) == ("0.21", ["<b>blue</b> 0.90"])
    assert kit.metric(served.client, 'detflow_requests_total{route="predict"') == asked

    browser.focus("#list button")
    browser.press("Enter")
    assert browser.run("document.querySelector('.box').classList.contains('lit')")
    assert browser.find_barriers() == []
    browser.resize(390, 844)
    browser.emulate(scheme="dark")
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.find_barriers() == []


def test_labels_stay_inside_the_picture(browser, served, kit, tmp_path):
    """One box covers the whole picture, so that there is no room above it."""
    open_page(browser, served)
    browser.choose("#threshold", "0")
    # The picture is hardly wider than a label, and its box ends in its middle.
    browser.upload("#file", write(kit, tmp_path, "narrow.png", (10, 10, 200), (60, 200)))
    browser.wait_for("document.querySelectorAll('.box').length === 2")
    browser.wait_for("document.getElementById('picture').complete")
    browser.run("placeLabels()")
    outside = browser.run(
        "(() => { const room = document.getElementById('picture').getBoundingClientRect();"
        "return [...document.querySelectorAll('.box span')]"
        ".map((one) => one.getBoundingClientRect())"
        ".filter((box) => box.left < room.left - 1 || box.right > room.right + 1"
        " || box.top < room.top - 1 || box.bottom > room.bottom + 1)"
        ".map((box) => [box.left, box.top, room.left, room.top]); })()"
    )
    assert outside == []
    # Each label touches its own box: above it, or else in its upper corner.
    apart = browser.run(
        "[...document.querySelectorAll('.box')].filter((box) => {"
        " const [around, label] = [box, box.firstChild].map((one) => one.getBoundingClientRect());"
        " return Math.abs(label.bottom - around.top) > 3 && Math.abs(label.top - around.top) > 3;"
        "}).length"
    )
    assert apart == 0


def test_several_pictures_at_once(browser, served, kit, tmp_path):
    open_page(browser, served)
    colours = {"red.png": (200, 10, 10), "green.png": (10, 200, 10), "blue.png": (10, 10, 200)}
    (tmp_path / "broken.png").write_bytes(b"hello")
    pictures = [write(kit, tmp_path, name, colour) for name, colour in colours.items()]
    browser.upload("#file", *pictures, tmp_path / "broken.png")
    counts = "[...document.querySelectorAll('#strip button')].map((one) => one.innerText.trim())"
    browser.wait_for(f"({counts}).join() === '1,1,1,refused'")
    assert boxes(browser) == ["red 0.90"]
    browser.click("#strip li:nth-child(2) button")
    assert boxes(browser) == ["green 0.90"]
    # One that failed shows no box of another.
    browser.click("#strip li:nth-child(4) button")
    assert boxes(browser) == []
    assert browser.text("#status").startswith("broken.png: image undecodable")
    assert not browser.run("document.getElementById('results').checkVisibility()")
    browser.click("#strip li:nth-child(3) button")
    assert boxes(browser) == ["<b>blue</b> 0.90"]
    assert browser.find_barriers() == []
    # What is saved is what is shown of all pictures.
    answer = json.loads(browser.run("JSON.stringify(collectAnswers())"))
    assert [one["file"] for one in answer["images"]] == list(colours)
    assert [len(one["detections"]) for one in answer["images"]] == [1, 1, 1]
    assert (answer["score_threshold"], answer["model"]["name"]) == (0.3, "cells")
    # A file that is refused here, or is no picture, leaves no box of the one before either.
    (tmp_path / "large.png").write_bytes(b"x" * 300_000)
    browser.upload("#file", tmp_path / "large.png")
    browser.wait_for("document.getElementById('status').textContent.startsWith('The file has 0.3')")
    assert boxes(browser) == []
    (tmp_path / "notes.txt").write_text("no picture")
    browser.upload("#file", tmp_path / "notes.txt")
    assert browser.text("#status") == "This file is not a picture."
    assert browser.run("document.getElementById('view').hidden")
    # The browser tells of the picture that the server refused.
    assert all("400" in fault for fault in browser.faults)
    browser.faults.clear()


def test_the_page_asks_for_the_token(browser, served_dir, kit, tmp_path):
    picture = write(kit, tmp_path, "picture.png")
    with kit.running(served_dir, token=kit.token) as server:
        browser.open(server.client.base_url)
        status = "document.getElementById('status').textContent"
        browser.wait_for(f"{status} === 'The server asks for a token.'")
        # A picture that was chosen meanwhile is not lost.
        browser.upload("#file", picture)
        for token, answer in (("not this one", "The server does not accept this token."),):
            browser.run(f"document.getElementById('token').value = {json.dumps(token)}")
            browser.focus("#token")
            browser.press("Enter")
            browser.wait_for(f"{status} === {json.dumps(answer)}")
        browser.run(f"document.getElementById('token').value = {json.dumps(kit.token)}")
        browser.focus("#token")
        browser.press("Enter")
        browser.wait_for("document.getElementById('classes').textContent.startsWith('Finds 3')")
        browser.wait_for("document.querySelectorAll('.box').length === 1")
        assert boxes(browser) == ["red 0.90"]
        browser.open("about:blank")
    browser.faults.clear()


def test_a_camera_is_a_source(browser, served_dir, kit):
    # The pictures of a camera are larger than the server of the other tests allows.
    with kit.running(served_dir) as server:
        open_page(browser, server)
        browser.allow_camera(True)
        browser.click("#camera")
        browser.wait_for("document.getElementById('status').textContent === 'The camera is on.'")
        assert browser.run("document.getElementById('video').videoWidth") > 0
        browser.click("#take")
        browser.wait_for("document.querySelectorAll('.box').length === 1")
        assert browser.run("document.getElementById('picture').alt").startswith("camera-")
        browser.click("#watch")
        browser.wait_for("document.getElementById('picture').alt === 'camera.jpg'")
        assert browser.text("#watch") == "Stop watching"
        browser.click("#watch")
        browser.wait_for("document.getElementById('watch').innerText === 'Watch'")
        assert browser.find_barriers() == []
        # Stopped and begun again while a picture is on its way: the first loop ends all the same.
        browser.run(
            "window.pending = []; detect = () => new Promise((done) => pending.push(done));"
            "void watch().then(() => { window.hasEnded = true; })"
        )
        browser.wait_for("pending.length === 1")
        browser.click("#watch")
        browser.click("#watch")
        browser.wait_for("pending.length === 2")
        browser.run("pending[0]()")
        browser.wait_for("window.hasEnded === true")
        assert browser.text("#watch") == "Stop watching"
        browser.click("#camera")
        assert browser.text("#camera") == "Use the camera"
        assert browser.run("document.getElementById('video').srcObject") is None
        browser.open("about:blank")


def test_a_camera_that_is_refused_is_one_line(browser, served, kit, tmp_path):
    open_page(browser, served)
    browser.allow_camera(False)
    browser.click("#camera")
    browser.wait_for("document.getElementById('camera-note').textContent !== ''")
    assert browser.text("#camera-note").startswith("The camera was refused. Allow it")
    # Everything else works.
    browser.upload("#file", write(kit, tmp_path, "sound.png"))
    browser.wait_for("document.querySelectorAll('.box').length === 1")
    # Where the address is not trusted, there is no camera to ask for.
    browser.run("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    browser.click("#camera")
    assert "over HTTPS" in browser.text("#camera-note")
